// Media: tickets, quota, sharing, deletion on delivery, and files nobody came to own.
#include "chat/chat_fixture.h"

#include "base/test.h"
#include "chat/media_name.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <utime.h>

static int64_t held_bytes(struct fixture *f) {
    return count(f, on_postgres() ? "select cast(sum(held_bytes) as bigint) from quota"
                                  : "select sum(held_bytes) from account");
}

static void reopen(struct fixture *f) {
    fixture_close(f);
    fixture_open(f);
}

static bool no_files(void *arg) { return media_files(arg) == 0; }

static void test_a_picture_is_delivered_and_deleted(void **state) {
    struct pair p = pair_new(state);
    char ticket[CHAT_TOKEN_TEXT];
    struct id m = new_id(p.f);
    assert_int_equal(upload(p.f, &p.alice, "picture", 7, "image/png", "a.png", ticket), ERR_OK);
    assert_int_equal(send_media(p.f, &p.alice, "ab", &m, ticket).err, ERR_OK);
    await_entry(p.f, &p.bob, 0, ENTRY_MESSAGE, &m);
    const struct page_seen *page = mailbox(p.f, &p.bob, 0, 0, 0);
    assert_int_equal(page->entries[0].kind, CHAT_MEDIA);
    assert_int_equal(page->entries[0].bytes, 7);
    struct got got = get(p.f, &p.bob, &m);
    assert_int_equal(got.err, ERR_OK);
    assert_int_equal(got.kind, CHAT_MEDIA);
    assert_int_equal(got.bytes, 7);
    assert_int_equal(media_files(p.f), 1);
    assert_int_equal(received(p.f, &p.bob, &m), ERR_OK);
    assert_int_equal(get(p.f, &p.bob, &m).err, ERR_GONE);
    run_until(p.f, no_files, p.f);
    assert_int_equal(count(p.f, "select count(*) from media"), 0);
    assert_int_equal(held_bytes(p.f), 0);
    assert_true(send_media(p.f, &p.alice, "ab", &m, ticket).duplicate);
}

static void test_a_ticket_is_its_uploaders_and_good_once(void **state) {
    struct pair p = pair_new(state);
    char ticket[CHAT_TOKEN_TEXT];
    struct id m = new_id(p.f), again = new_id(p.f);
    assert_int_equal(upload(p.f, &p.alice, "picture", 7, "image/png", NULL, ticket), ERR_OK);
    struct sent stolen = send_media(p.f, &p.bob, "ab", &m, ticket);
    assert_int_equal(stolen.err, ERR_INVALID);
    assert_string_equal(stolen.field, "media");
    assert_int_equal(send_media(p.f, &p.alice, "ab", &m, "no ticket").err, ERR_INVALID);
    assert_int_equal(send_media(p.f, &p.alice, "ab", &m, ticket).err, ERR_OK);
    assert_true(send_media(p.f, &p.alice, "ab", &m, ticket).duplicate);
    assert_int_equal(send_media(p.f, &p.alice, "ab", &again, ticket).err, ERR_INVALID);
    // The same file uploaded again is the same content for the same message.
    assert_int_equal(upload(p.f, &p.alice, "picture", 7, "image/png", NULL, ticket), ERR_OK);
    assert_true(send_media(p.f, &p.alice, "ab", &m, ticket).duplicate);
    assert_int_equal(upload(p.f, &p.alice, "another", 7, "image/png", NULL, ticket), ERR_OK);
    assert_int_equal(send_media(p.f, &p.alice, "ab", &m, ticket).err, ERR_CONFLICT);
}

static void test_a_shared_content_goes_with_its_last_owner(void **state) {
    struct pair p = pair_new(state);
    char one[CHAT_TOKEN_TEXT], two[CHAT_TOKEN_TEXT];
    struct id first = new_id(p.f), second = new_id(p.f);
    assert_int_equal(upload(p.f, &p.alice, "same", 4, "text/plain", NULL, one), ERR_OK);
    assert_int_equal(upload(p.f, &p.bob, "same", 4, "text/plain", NULL, two), ERR_OK);
    assert_int_equal(media_files(p.f), 1);
    assert_int_equal(send_media(p.f, &p.alice, "ab", &first, one).err, ERR_OK);
    assert_int_equal(send_media(p.f, &p.bob, "ab", &second, two).err, ERR_OK);
    await_entry(p.f, &p.bob, 0, ENTRY_MESSAGE, &first);
    await_entry(p.f, &p.alice, 0, ENTRY_MESSAGE, &second);
    assert_int_equal(received(p.f, &p.bob, &first), ERR_OK);
    run_for(p.f, 50);
    assert_int_equal(media_files(p.f), 1);
    assert_int_equal(get(p.f, &p.alice, &second).err, ERR_OK);
    assert_int_equal(received(p.f, &p.alice, &second), ERR_OK);
    assert_int_equal(count(p.f, "select count(*) from media where refs > 0"), 0);
    while (media_files(p.f) > 0) run_for(p.f, 5); // hangs, and is ended by the time limit, if it stays
}

static void test_quota(void **state) {
    struct pair p = pair_new(state);
    p.f->options.upload_quota_bytes = 10;
    p.f->options.upload_max_bytes = 8;
    reopen(p.f);
    char ticket[CHAT_TOKEN_TEXT], other[CHAT_TOKEN_TEXT];
    assert_int_equal(upload(p.f, &p.alice, "123456789", 9, "text/plain", NULL, ticket), ERR_TOO_LARGE);
    assert_int_equal(upload(p.f, &p.alice, "12345678", 8, "text/plain", NULL, ticket), ERR_OK);
    assert_int_equal(upload(p.f, &p.alice, "123", 3, "text/plain", NULL, other), ERR_LIMIT);
    assert_int_equal(upload(p.f, &p.bob, "123", 3, "text/plain", NULL, other), ERR_OK);
    struct id m = new_id(p.f);
    assert_int_equal(send_media(p.f, &p.alice, "ab", &m, ticket).err, ERR_OK);
    assert_int_equal(upload(p.f, &p.alice, "123", 3, "text/plain", NULL, other), ERR_LIMIT); // not delivered yet
    await_entry(p.f, &p.bob, 0, ENTRY_MESSAGE, &m);
    assert_int_equal(received(p.f, &p.bob, &m), ERR_OK);
    assert_int_equal(upload(p.f, &p.alice, "123", 3, "text/plain", NULL, other), ERR_OK);
}

static void test_unused_tickets_expire(void **state) {
    struct pair p = pair_new(state);
    p.f->options.sweep_every_ms = 20;
    reopen(p.f);
    char ticket[CHAT_TOKEN_TEXT];
    struct id m = new_id(p.f);
    assert_int_equal(upload(p.f, &p.alice, "unused", 6, "text/plain", NULL, ticket), ERR_OK);
    clock_forward(p.f, 25 * 3600 * 1000);
    run_until(p.f, no_files, p.f);
    assert_int_equal(send_media(p.f, &p.alice, "ab", &m, ticket).err, ERR_INVALID);
    assert_int_equal(held_bytes(p.f), 0);
}

// An upload whose process died before its ticket: the file belongs to nobody.
static void make_old(const char *dir) {
    DIR *d = opendir(dir);
    struct dirent *at;
    while (d != NULL && (at = readdir(d)) != NULL) {
        if (at->d_name[0] == '.') continue;
        char path[512];
        snprintf(path, sizeof path, "%s/%s", dir, at->d_name);
        if (at->d_type == DT_DIR) make_old(path);
        struct utimbuf past = {.actime = 1000000, .modtime = 1000000};
        utime(path, &past);
    }
    if (d != NULL) closedir(d);
}

static void test_orphans_are_found_at_the_start(void **state) {
    struct pair p = pair_new(state);
    char ticket[CHAT_TOKEN_TEXT], kept[CHAT_TOKEN_TEXT], media[128];
    assert_int_equal(upload(p.f, &p.alice, "orphan", 6, "text/plain", NULL, ticket), ERR_OK);
    assert_int_equal(upload(p.f, &p.alice, "wanted", 6, "text/plain", NULL, kept), ERR_OK);
    execute(p.f, "delete from ticket where hash in (select hash from ticket order by hash limit 1)");
    execute(p.f, "delete from media where hash not in (select hash from ticket)");
    assert_int_equal(media_files(p.f), 2);
    snprintf(media, sizeof media, "%s/media", p.f->dir);
    if (on_postgres()) execute(p.f, "update datastore_content set named_at = now() - interval '1 day'");
    fixture_close(p.f);
    make_old(media);
    fixture_open(p.f);
    for (int i = 0; i < 500 && media_files(p.f) > 1; i++) run_for(p.f, 10);
    assert_int_equal(media_files(p.f), 1);
    run_for(p.f, 50);
    assert_int_equal(media_files(p.f), 1);
}

struct step {
    struct fixture *f;
    struct chat_upload *upload;
    int done;
    enum err err;
};
static void opened(void *arg, const struct error *error, struct chat_upload *u) {
    struct step *s = arg;
    s->upload = u;
    s->err = error != NULL ? error->code : ERR_OK;
    s->done++;
    loop_stop(s->f->loop);
}
static void stepped(void *arg, const struct error *error) {
    struct step *s = arg;
    s->done++;
    loop_stop(s->f->loop);
}
static bool has_stepped(void *arg) { return ((struct step *)arg)->done > 0; }
static void ticketed(void *arg, const struct error *error, const struct chat_ticket *ok) { fail(); }

static struct chat_upload *begin(struct pair *p, enum err expect) {
    struct step s = {.f = p->f};
    chat_upload_open(p->f->chat, &p->alice, "text/plain", NULL, 0, opened, &s);
    run_until(p->f, has_stepped, &s);
    assert_int_equal(s.err, expect);
    return s.upload;
}

static void test_uploads_can_be_given_up_at_any_time(void **state) {
    struct pair p = pair_new(state);
    chat_upload_abort(begin(&p, ERR_OK));
    struct chat_upload *u = begin(&p, ERR_OK);
    struct step s = {.f = p.f};
    chat_upload_write(u, "x", 1, stepped, &s);
    run_until(p.f, has_stepped, &s);
    chat_upload_abort(u);
    u = begin(&p, ERR_OK);
    chat_upload_write(u, "x", 1, stepped, &s);
    chat_upload_abort(u); // while writing
    u = begin(&p, ERR_OK);
    s.done = 0;
    chat_upload_write(u, "y", 1, stepped, &s);
    run_until(p.f, has_stepped, &s);
    chat_upload_finish(u, ticketed, &s);
    chat_upload_abort(u); // while finishing
    run_for(p.f, 100);
    run_until(p.f, no_files, p.f);
}

static void ticket_kept(void *arg, const struct error *error, const struct chat_ticket *ok) {
    struct step *s = arg;
    assert_null(error);
    s->done++;
    loop_stop(s->f->loop);
}
static bool has_both(void *arg) { return ((struct step *)arg)->done == 2; }

// The last owner lets go while the same content is being uploaded again.
static void test_an_upload_meets_the_removal_of_the_same_content(void **state) {
    struct pair p = pair_new(state);
    for (int round = 0; round < 10; round++) {
        char ticket[CHAT_TOKEN_TEXT];
        struct id m = new_id(p.f);
        assert_int_equal(upload(p.f, &p.alice, "same", 4, "text/plain", NULL, ticket), ERR_OK);
        assert_int_equal(send_media(p.f, &p.alice, "ab", &m, ticket).err, ERR_OK);
        await_entry(p.f, &p.bob, (uint64_t)round, ENTRY_MESSAGE, &m);
        execute(p.f, "delete from ticket");
        execute(p.f, "update media set refs = 1");
        struct chat_upload *u = begin(&p, ERR_OK);
        struct step s = {.f = p.f};
        chat_upload_write(u, "same", 4, stepped, &s);
        run_until(p.f, has_stepped, &s);
        s.done = 0;
        if (round % 2 == 0) chat_upload_finish(u, ticket_kept, &s);
        chat_received(p.f->chat, &p.bob, &m, stepped, &s);
        if (round % 2 == 1) chat_upload_finish(u, ticket_kept, &s);
        run_until(p.f, has_both, &s);
        run_for(p.f, 30);
        assert_int_equal(media_files(p.f), 1);
        assert_int_equal(count(p.f, "select count(*) from media where refs = 1"), 1);
    }
}

static void test_uploads_at_once_are_bounded(void **state) {
    struct pair p = pair_new(state);
    struct chat_upload *open[8];
    for (int i = 0; i < 8; i++) open[i] = begin(&p, ERR_OK);
    assert_null(begin(&p, ERR_LIMIT));
    for (int i = 0; i < 8; i++) chat_upload_abort(open[i]);
}

static void test_media_types(void **state) {
    assert_true(media_type_valid("image/png"));
    assert_true(media_type_valid("text/plain; charset=utf-8"));
    assert_false(media_type_valid("image"));
    assert_false(media_type_valid("image/"));
    assert_false(media_type_valid("image/png\r\nX: y"));
    assert_false(media_type_valid("text/html<script>"));
}

static void assert_name(const char *given, const char *clean) {
    char out[MEDIA_NAME_MAX + 1];
    media_name_clean(given, out);
    assert_string_equal(out, clean);
}

static void test_names_are_made_harmless(void **state) {
    assert_name("cat.png", "cat.png");
    assert_name("../../etc/passwd", "passwd");
    assert_name("C:\\temp\\a.txt", "a.txt");
    assert_name("..", "");
    assert_name(".bashrc", "bashrc");
    assert_name("a\nb\"c", "a_b_c");
    assert_name("caf\xc3\xa9.txt", "caf\xc3\xa9.txt");
    assert_name("\xff", "");
    assert_name(NULL, "");
    char large[400], out[MEDIA_NAME_MAX + 1];
    for (size_t i = 0; i + 2 < sizeof large; i += 2) memcpy(large + i, "\xc3\xa9", 3);
    media_name_clean(large, out);
    assert_int_equal(strlen(out), 200);
}

#define T(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        T(test_a_picture_is_delivered_and_deleted),
        T(test_a_ticket_is_its_uploaders_and_good_once),
        T(test_a_shared_content_goes_with_its_last_owner),
        T(test_quota),
        T(test_unused_tickets_expire),
        T(test_orphans_are_found_at_the_start),
        T(test_uploads_can_be_given_up_at_any_time),
        T(test_an_upload_meets_the_removal_of_the_same_content),
        T(test_uploads_at_once_are_bounded),
        cmocka_unit_test(test_media_types),
        cmocka_unit_test(test_names_are_made_harmless),
    };
    return fixture_missing() ? 77 : cmocka_run_group_tests(tests, NULL, NULL);
}
