// What reaches the operator: log lines that cannot be forged, crash points, and the end of the process.
// Each case runs in a forked child whose stderr is read through a pipe.
#include "base/assert.h"
#include "base/crash.h"
#include "base/log.h"
#include "base/test.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static char output[16384];

// Runs `body` in a child and gives its wait status; what it wrote to stderr is in `output`.
static int in_child(void (*body)(void)) {
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        signal(SIGABRT, SIG_DFL); // cmocka's own handlers are not for us
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        body();
        _exit(0);
    }
    close(ends[1]);
    size_t len = 0;
    ssize_t n;
    while ((n = read(ends[0], output + len, sizeof output - 1 - len)) > 0) len += (size_t)n;
    output[len] = 0;
    close(ends[0]);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static int lines(void) {
    int count = 0;
    for (const char *at = output; *at != 0; at++) count += *at == '\n';
    return count;
}

static void log_plain(void) { log_event(LOG_INFO, "accepted", "message_id", "m-1", "n", "2", NULL); }

static void a_record_is_one_logfmt_line(void **state) {
    (void)state;
    in_child(log_plain);
    assert_int_equal(lines(), 1);
    assert_memory_equal(output, "ts=20", 5);
    assert_string_equal(output + strlen("ts=2026-11-21T05:06:07.089Z"),
                        " level=info event=accepted message_id=m-1 n=2\n");
}

static void log_forged(void) {
    log_event(LOG_WARN, "login", "user", "eve\nts=2026 level=info event=login user=root", "a", "x y=\"z\"\\", NULL);
    log_event(LOG_WARN, "login", "empty", "", "null", (char *)NULL, "bad", "\xff\x01", "good", "caf\xc3\xa9", NULL);
    log_text(LOG_WARN, "note", "%d\r\n%s", 7, "b");
}

static void no_value_can_forge_a_record_or_a_key(void **state) {
    (void)state;
    in_child(log_forged);
    assert_int_equal(lines(), 3);
    assert_non_null(
        strstr(output, " user=\"eve\\nts=2026 level=info event=login user=root\" a=\"x y=\\\"z\\\"\\\\\"\n"));
    assert_non_null(strstr(output, " empty=\"\" null=\"\" bad=\"\\xff\\x01\" good=caf\xc3\xa9\n"));
    assert_non_null(strstr(output, " event=note msg=\"7\\r\\nb\"\n"));
}

static void log_huge(void) {
    static char value[3000];
    memset(value, 'v', sizeof value - 1);
    log_event(LOG_ERROR, "huge", "a", value, "b", value, "c", value, NULL);
    memset(value, '\n', sizeof value - 1);
    log_event(LOG_ERROR, "huge", "a", value, "b", value, "c", "last", NULL);
}

static void a_record_too_long_is_still_one_line(void **state) {
    (void)state;
    in_child(log_huge);
    assert_int_equal(lines(), 2);
    assert_true(strlen(output) <= 2 * 4096);
}

static void log_by_level(void) {
    enum log_level level;
    log_event(LOG_DEBUG, "hidden_by_default", NULL);
    if (log_level_parse("error", &level) == 0) log_set_level(level);
    log_event(LOG_WARN, "hidden", NULL);
    log_event(LOG_ERROR, "shown", NULL);
}

static void records_below_the_level_are_not_written(void **state) {
    (void)state;
    enum log_level level;
    in_child(log_by_level);
    assert_int_equal(lines(), 1);
    assert_non_null(strstr(output, "event=shown\n"));
    assert_int_equal(log_level_parse("loud", &level), -1);
}

static void pass_points(void) {
    crash_init();
    crash_point("other");
    for (int i = 0; i < 2; i++) crash_point("accept.committed");
    fputs("still here\n", stderr);
    crash_point("accept.committed");
    fputs("too far\n", stderr);
}

static void a_crash_point_kills_at_the_nth_pass(void **state) {
    (void)state;
    setenv("BARID_CRASH_AT", "accept.committed:3", 1);
    int status = in_child(pass_points);
    unsetenv("BARID_CRASH_AT");
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGKILL);
    assert_non_null(strstr(output, "still here"));
    assert_null(strstr(output, "too far"));
}

static void without_the_variable_nothing_is_killed(void **state) {
    (void)state;
    unsetenv("BARID_CRASH_AT");
    int status = in_child(pass_points);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_non_null(strstr(output, "too far"));
}

static void a_crash_point_misspelt_is_refused(void **state) {
    (void)state;
    static const char *const wrong[] = {"name:", "name:0", "name:-1", "name:2x", ":1"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        setenv("BARID_CRASH_AT", wrong[i], 1);
        int status = in_child(crash_init);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 70);
        assert_non_null(strstr(output, "BARID_CRASH_AT"));
    }
    unsetenv("BARID_CRASH_AT");
}

static void break_a_rule(void) { ASSERT(1 + 1 == 3); }

static void a_failed_assertion_names_itself_and_aborts(void **state) {
    (void)state;
    int status = in_child(break_a_rule);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
    assert_non_null(strstr(output, "1 + 1 == 3"));
    assert_non_null(strstr(output, "process_test.c:"));
}

static void give_up(void) { die("cannot sync %s", "segment-7"); }

static void dying_tells_why_and_exits_70(void **state) {
    (void)state;
    int status = in_child(give_up);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 70);
    assert_string_equal(output, "barid: cannot sync segment-7\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_record_is_one_logfmt_line),
        cmocka_unit_test(no_value_can_forge_a_record_or_a_key),
        cmocka_unit_test(a_record_too_long_is_still_one_line),
        cmocka_unit_test(records_below_the_level_are_not_written),
        cmocka_unit_test(a_crash_point_kills_at_the_nth_pass),
        cmocka_unit_test(without_the_variable_nothing_is_killed),
        cmocka_unit_test(a_crash_point_misspelt_is_refused),
        cmocka_unit_test(a_failed_assertion_names_itself_and_aborts),
        cmocka_unit_test(dying_tells_why_and_exits_70),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
