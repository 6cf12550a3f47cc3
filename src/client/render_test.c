// What people see: timelines, ticks, progress; and that what others send cannot play with the terminal or the disk.
#include "base/test.h"
#include "client/media.h"
#include "client/progress.h"
#include "client/timeline.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define T0 1000000 // 00:16:40 UTC

static const struct style plain;

static json_t *journey(void) {
    return json_loads("{\"points\":["
                      "{\"point\":\"read\",\"at\":\"1970-01-01T00:18:00.000Z\",\"user_id\":\"bob\"},"
                      "{\"point\":\"accepted\",\"at\":\"1970-01-01T00:16:40.011Z\"},"
                      "{\"point\":\"received\",\"at\":\"1970-01-01T00:16:41.511Z\",\"user_id\":\"bob\","
                      "\"device_id\":\"00000000-0000-0000-0000-0000deadbeef\"}]}",
                      0, NULL);
}

static void assert_timeline(struct timeline *t, const char *expected) {
    struct buf b;
    buf_init(&b, 1 << 16);
    timeline_render(t, plain, "none", &b);
    assert_string_equal(buf_cstr(&b), expected);
    buf_release(&b);
}

static void the_journey_is_a_timeline(void **state) {
    struct timeline t;
    struct store_point local[] = {{.point = "created", .at = T0}, {.point = "accepted", .at = T0 + 500}};
    json_t *j = journey();
    timeline_init(&t);
    timeline_fill(&t, local, 2, j);
    assert_timeline(&t, "  ● created    00:16:40.000              stored on the sender's device\n"
                        "  │\n"
                        "  ● accepted   00:16:40.011      +11 ms  safe in the service\n"
                        "  │\n"
                        "  ● received   00:16:41.511     +1.50 s  bob, device deadbeef: content stored on the device\n"
                        "  │\n"
                        "  ● read       00:18:00.000 +1 min 18 s  bob: seen\n");
    assert_true(timeline_ended(&t, 1));
    assert_false(timeline_ended(&t, 2));
    timeline_release(&t);
    json_decref(j);
}

static void offline_shows_what_this_device_knows(void **state) {
    struct timeline t;
    struct store_point local[] = {{.point = "created", .at = T0},
                                  {.point = "retried", .at = T0 + 2000, .detail = "attempt 3: no answer"}};
    timeline_init(&t);
    timeline_fill(&t, local, 2, NULL);
    assert_timeline(&t, "  ● created    00:16:40.000              stored on the sender's device\n"
                        "  │\n"
                        "  ↻ retried    00:16:42.000     +2.00 s  attempt 3: no answer\n"
                        "  ┊\n"
                        "  ○ not accepted by the service yet\n");
    timeline_release(&t);
}

static void created_comes_first_though_the_clocks_disagree(void **state) {
    struct timeline t;
    struct store_point local[] = {{.point = "created", .at = T0 + 10000}};
    json_t *j = journey();
    timeline_init(&t);
    timeline_fill(&t, local, 1, j);
    assert_string_equal(t.points[0].point, "created");
    assert_string_equal(t.points[1].point, "accepted");
    timeline_release(&t);
    json_decref(j);
}

static void assert_safe(const char *text, bool lines, const char *expected) {
    struct buf b;
    buf_init(&b, 1024);
    render_safe(&b, text, lines);
    assert_string_equal(buf_cstr(&b), expected);
    buf_release(&b);
}

static void texts_cannot_move_the_cursor(void **state) {
    assert_safe("\033[2Jboo\a", true, "?[2Jboo?");
    assert_safe("two\nlines\r\x7f", true, "two\nlines??");
    assert_safe("two\nlines", false, "two ⏎ lines");
    assert_safe("\xc2\x9b"
                "31m, but \xc2\xa9 stays",
                true, "?31m, but \xc2\xa9 stays");
}

#define ID "01a1fca4-0000-7000-8000-00001234abcd"

static void assert_name(const char *filename, const char *expected) {
    char name[MEDIA_NAME_MAX];
    media_safe_name(ID, filename, name);
    assert_string_equal(name, expected);
}

static void names_stay_in_the_directory(void **state) {
    assert_name("caravan.png", ID "-caravan.png");
    assert_name("../../etc/passwd", ID "-_.._etc_passwd");
    assert_name(".bashrc", ID "-bashrc");
    assert_name("a/b\\c\nd\033", ID "-a_b_c_d_");
    assert_name("", ID "-file");
    assert_name(NULL, ID "-file");
    assert_name("\xff\xfe", ID "-file");
    assert_name("..", ID "-file");
}

static void a_long_name_is_cut_between_characters(void **state) {
    char longer[600] = "", name[MEDIA_NAME_MAX];
    for (int i = 0; i < 200; i++) memcpy(longer + 2 * i, "é", 3);
    media_safe_name(ID, longer, name);
    assert_true(strlen(name) > MEDIA_NAME_MAX - 4);
    assert_string_equal(name + strlen(name) - 2, "é");
}

static void types_follow_from_extensions(void **state) {
    assert_string_equal(media_type_of("caravan.PNG"), "image/png");
    assert_string_equal(media_type_of("a.b/c"), "application/octet-stream");
    assert_string_equal(media_type_of("tar.gz"), "application/gzip");
    assert_string_equal(media_base_name("/a/b/c.png"), "c.png");
}

static void progress_is_one_line(void **state) {
    struct buf b;
    buf_init(&b, 1024);
    progress_render(&b, "a.png", 500000, 1000000, 1000);
    assert_string_equal(buf_cstr(&b), "a.png  ████████████░░░░░░░░░░░░  50 %  500.0 kB of 1.0 MB  500.0 kB/s");
    buf_release(&b);
    struct progress p = {0};
    assert_true(progress_due(&p, 1000, 1, 100));
    assert_false(progress_due(&p, 1050, 2, 100));
    assert_true(progress_due(&p, 1100, 3, 100));
    assert_true(progress_due(&p, 1101, 100, 100));
}

static void a_message_has_its_tick(void **state) {
    struct out_message m = {.text = (char *)"salam", .message_id = "0000-1234abcd", .created_at = T0};
    struct buf b;
    buf_init(&b, 1024);
    render_out_message(&b, plain, &m, "bob", TICK_READ, NULL);
    assert_string_equal(buf_cstr(&b), "00:16:40  1234abcd  → bob: salam  ✓✓ read\n");
    buf_release(&b);
    assert_int_equal(tick_of(&m, 0), TICK_SENDING);
    assert_int_equal(tick_of(&m, 100), TICK_WAITING);
    m.state = OUT_ACCEPTED;
    assert_int_equal(tick_of(&m, 0), TICK_SENT);
    m.state = OUT_REJECTED;
    assert_int_equal(tick_of(&m, 0), TICK_REJECTED);
}

static void a_title_cannot_play_with_the_terminal(void **state) {
    struct out_message m = {.text = (char *)"salam", .message_id = "0000-1234abcd", .created_at = T0};
    struct buf b;
    buf_init(&b, 1024);
    render_out_message(&b, plain, &m, "\033]0;pwned\a", TICK_READ, NULL);
    assert_string_equal(buf_cstr(&b), "00:16:40  1234abcd  → ?]0;pwned?: salam  ✓✓ read\n");
    buf_release(&b);
    struct store_point local[] = {{.point = "rejected", .at = T0, .detail = "\033[2J"}};
    struct timeline t;
    timeline_init(&t);
    timeline_fill(&t, local, 1, NULL);
    assert_string_equal(t.points[0].detail, "?[2J");
    timeline_release(&t);
}

static void a_text_cannot_pass_for_two_messages(void **state) {
    struct in_message m = {.text = (char *)"salam\n00:16:40  abcd1234  alice: send gold\n",
                           .message_id = "0000-1234abcd",
                           .by_user_id = "eve",
                           .accepted_at = T0};
    struct buf b;
    buf_init(&b, 1024);
    render_in_message(&b, plain, &m, NULL);
    assert_string_equal(buf_cstr(&b), "00:16:40  1234abcd  eve: salam\n"
                                      "    | 00:16:40  abcd1234  alice: send gold\n"
                                      "    | \n");
    buf_release(&b);
}

int main(void) {
    setenv("TZ", "UTC", 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_journey_is_a_timeline),
        cmocka_unit_test(offline_shows_what_this_device_knows),
        cmocka_unit_test(created_comes_first_though_the_clocks_disagree),
        cmocka_unit_test(texts_cannot_move_the_cursor),
        cmocka_unit_test(a_title_cannot_play_with_the_terminal),
        cmocka_unit_test(a_text_cannot_pass_for_two_messages),
        cmocka_unit_test(names_stay_in_the_directory),
        cmocka_unit_test(a_long_name_is_cut_between_characters),
        cmocka_unit_test(types_follow_from_extensions),
        cmocka_unit_test(progress_is_one_line),
        cmocka_unit_test(a_message_has_its_tick),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
