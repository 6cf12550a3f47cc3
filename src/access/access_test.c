// Users, virtual hosts and permissions over a real database: what is there at first, what changes do, what is still
// there after a restart.
#include "access/rig_test.h"

static char text[4096];

static void add(const char *a, const char *b) {
    size_t n = strlen(text);
    snprintf(text + n, sizeof text - n, "%s=%s;", a, b);
}
static void each_user(void *arg, const struct access_user *u) { add(u->name, u->tags); }
static void each_vhost(void *arg, const struct access_vhost_info *v) { add(v->name, v->description); }
static void each_permission(void *arg, const struct access_permission *p) {
    char patterns[64];
    snprintf(patterns, sizeof patterns, "%s %s|%s|%s", p->vhost, p->configure, p->write, p->read);
    add(p->user, patterns);
}

static const char *users(struct rig *r) {
    text[0] = '\0';
    access_each_user(r->access, each_user, NULL);
    return text;
}
static const char *vhosts(struct rig *r) {
    text[0] = '\0';
    access_each_vhost(r->access, each_vhost, NULL);
    return text;
}
static const char *permissions(struct rig *r) {
    text[0] = '\0';
    access_each_permission(r->access, each_permission, NULL);
    return text;
}

static bool may(struct rig *r, const char *user, const char *vhost, enum access_kind kind, const char *name) {
    const struct access_user *u = access_user(r->access, user);
    return u != NULL && access_may(r->access, u, vhost, kind, name);
}

static void begins_as_rabbitmq_does(void **state) {
    struct rig r;
    rig_init(&r);
    assert_string_equal(users(&r), "guest=administrator;");
    assert_string_equal(vhosts(&r), "/=Default virtual host;");
    assert_string_equal(permissions(&r), "guest=/ .*|.*|.*;");
    assert_int_equal(rig_login(&r, "guest", "guest", RIG_NEAR), ERR_OK);
    assert_true(may(&r, "guest", "/", ACCESS_CONFIGURE, "anything"));
    rig_release(&r);
}

static void what_was_deleted_does_not_come_back(void **state) {
    struct rig r;
    rig_init(&r);
    assert_int_equal(rig_user_delete(&r, "guest"), ERR_OK);
    access_vhost_delete(r.access, "/", rig_done, &r);
    assert_int_equal(rig_wait(&r, 1), ERR_OK);
    rig_restart(&r);
    assert_string_equal(users(&r), "");
    assert_string_equal(vhosts(&r), "");
    assert_string_equal(permissions(&r), "");
    rig_release(&r);
}

static void changes_survive_a_restart(void **state) {
    struct rig r;
    rig_init(&r);
    assert_int_equal(rig_user(&r, "zoe", "a secret", " monitoring , own-tag "), ERR_OK);
    assert_int_equal(rig_user(&r, "adam", "another", NULL), ERR_OK);
    access_vhost_put(r.access, &(struct access_vhost_info){"blue", "The blue one", "x,y", true}, rig_done, &r);
    assert_int_equal(rig_wait(&r, 1), ERR_OK);
    assert_int_equal(rig_permission(&r, "zoe", "blue", "^c", "^w", ""), ERR_OK);
    assert_int_equal(rig_permission(&r, "zoe", "/", "", "", "r$"), ERR_OK);
    for (int life = 0; life < 2; life++) {
        assert_string_equal(users(&r), "adam=;guest=administrator;zoe=monitoring,own-tag;");
        assert_string_equal(vhosts(&r), "/=Default virtual host;blue=The blue one;");
        assert_string_equal(permissions(&r), "guest=/ .*|.*|.*;zoe=/ ||r$;zoe=blue ^c|^w|;");
        assert_int_equal(rig_login(&r, "zoe", "a secret", RIG_FAR), ERR_OK);
        assert_int_equal(rig_login(&r, "zoe", "another", RIG_FAR), ERR_UNAUTHORIZED);
        assert_true(may(&r, "zoe", "blue", ACCESS_CONFIGURE, "cat"));
        assert_false(may(&r, "zoe", "blue", ACCESS_CONFIGURE, "a cat"));
        rig_restart(&r);
    }
    rig_release(&r);
}

static void tags_say_what_a_user_may(void **state) {
    static const struct {
        const char *tags;
        bool administrator, monitoring, management, policymaker, impersonator;
    } cases[] = {{"administrator", true, true, true, true, false},
                 {"monitoring", false, true, true, false, false},
                 {"policymaker", false, false, true, true, false},
                 {"x,management", false, false, true, false, false},
                 {"administrators,monitor", false, false, false, false, false},
                 {"management,impersonator", false, false, true, false, true},
                 {"no-impersonator", false, false, false, false, false},
                 {"", false, false, false, false, false}};
    struct rig r;
    rig_init(&r);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(rig_user(&r, "u", NULL, cases[i].tags), ERR_OK);
        const struct access_user *u = access_user(r.access, "u");
        assert_int_equal(u->administrator, cases[i].administrator);
        assert_int_equal(u->monitoring, cases[i].monitoring);
        assert_int_equal(u->management, cases[i].management);
        assert_int_equal(u->policymaker, cases[i].policymaker);
        assert_int_equal(u->impersonator, cases[i].impersonator);
    }
    rig_release(&r);
}

static void a_put_keeps_what_it_does_not_name(void **state) {
    struct rig r;
    rig_init(&r);
    assert_int_equal(rig_user(&r, "ann", "secret", "monitoring"), ERR_OK);
    assert_int_equal(rig_user(&r, "ann", "changed", NULL), ERR_OK);
    assert_string_equal(access_user(r.access, "ann")->tags, "monitoring");
    rig_restart(&r);
    assert_string_equal(access_user(r.access, "ann")->tags, "monitoring");
    access_user_put(r.access, &(struct access_user_put){.name = "ann", .keep_password = true, .tags = ""}, rig_done,
                    &r);
    assert_int_equal(rig_wait(&r, 1), ERR_OK);
    for (int life = 0; life < 2; life++) {
        assert_string_equal(access_user(r.access, "ann")->tags, "");
        assert_int_equal(rig_login(&r, "ann", "changed", RIG_FAR), ERR_OK);
        rig_restart(&r);
    }
    assert_int_equal(rig_user(&r, "ann", NULL, NULL), ERR_OK);
    assert_int_equal(rig_login(&r, "ann", "changed", RIG_FAR), ERR_UNAUTHORIZED);
    rig_release(&r);
}

static void permission_is_what_the_patterns_match(void **state) {
    struct rig r;
    rig_init(&r);
    rig_user(&r, "app", "secret", NULL);
    rig_vhost(&r, "blue");
    assert_false(access_may_enter(r.access, access_user(r.access, "app"), "blue"));
    assert_false(may(&r, "app", "blue", ACCESS_READ, "orders"));
    assert_int_equal(rig_permission(&r, "app", "blue", "", "^amq\\.default$", "^orders(\\.|$)"), ERR_OK);
    assert_true(access_may_enter(r.access, access_user(r.access, "app"), "blue"));
    assert_false(access_may_enter(r.access, access_user(r.access, "app"), "/"));
    assert_true(may(&r, "app", "blue", ACCESS_READ, "orders"));
    assert_true(may(&r, "app", "blue", ACCESS_READ, "orders.new"));
    assert_false(may(&r, "app", "blue", ACCESS_READ, "ordersnew"));
    assert_false(may(&r, "app", "blue", ACCESS_CONFIGURE, "orders"));
    assert_true(may(&r, "app", "blue", ACCESS_WRITE, "")); // the default exchange
    assert_false(may(&r, "app", "blue", ACCESS_READ, ""));
    assert_int_equal(rig_permission(&r, "app", "blue", ".*", "x", "x"), ERR_OK);
    assert_true(may(&r, "app", "blue", ACCESS_CONFIGURE, "orders"));
    assert_false(may(&r, "app", "blue", ACCESS_READ, "orders"));
    access_permission_delete(r.access, "app", "blue", rig_done, &r);
    assert_int_equal(rig_wait(&r, 1), ERR_OK);
    assert_false(access_may_enter(r.access, access_user(r.access, "app"), "blue"));
    assert_string_equal(r.changed, "permission;permission;permission;");
    rig_release(&r);
}

static void a_permission_wants_user_vhost_and_patterns(void **state) {
    struct rig r;
    rig_init(&r);
    assert_int_equal(rig_permission(&r, "nobody", "/", "", "", ""), ERR_NOT_FOUND);
    assert_non_null(strstr(r.error.text, "nobody"));
    assert_int_equal(rig_permission(&r, "guest", "nowhere", "", "", ""), ERR_NOT_FOUND);
    assert_non_null(strstr(r.error.text, "nowhere"));
    assert_int_equal(rig_permission(&r, "guest", "/", ".*", "(", ".*"), ERR_INVALID);
    assert_string_equal(r.error.field, "write");
    assert_string_equal(permissions(&r), "guest=/ .*|.*|.*;");
    access_permission_delete(r.access, "guest", "nowhere", rig_done, &r);
    assert_int_equal(rig_wait(&r, 1), ERR_NOT_FOUND);
    assert_int_equal(rig_user_delete(&r, "nobody"), ERR_NOT_FOUND);
    access_vhost_delete(r.access, "nowhere", rig_done, &r);
    assert_int_equal(rig_wait(&r, 1), ERR_NOT_FOUND);
    rig_release(&r);
}

static void permissions_go_with_their_user_or_vhost(void **state) {
    struct rig r;
    rig_init(&r);
    rig_user(&r, "ann", "x", NULL);
    rig_user(&r, "ben", "x", NULL);
    rig_vhost(&r, "blue");
    rig_permission(&r, "ann", "blue", "a", "b", "c");
    rig_permission(&r, "ann", "/", "a", "b", "c");
    rig_permission(&r, "ben", "blue", "a", "b", "c");
    r.changed[0] = '\0';
    access_vhost_delete(r.access, "blue", rig_done, &r);
    assert_int_equal(rig_wait(&r, 1), ERR_OK);
    assert_string_equal(r.changed, "vhost blue;");
    assert_string_equal(permissions(&r), "ann=/ a|b|c;guest=/ .*|.*|.*;");
    assert_int_equal(rig_user_delete(&r, "ann"), ERR_OK);
    assert_string_equal(r.changed, "vhost blue;user ann;");
    rig_vhost(&r, "blue"); // what comes again does not have them
    rig_user(&r, "ann", "x", NULL);
    for (int life = 0; life < 2; life++) {
        assert_string_equal(permissions(&r), "guest=/ .*|.*|.*;");
        rig_restart(&r);
    }
    rig_release(&r);
}

static void a_held_user_outlives_its_deletion(void **state) {
    struct rig r;
    rig_init(&r);
    rig_user(&r, "ann", "x", "monitoring");
    const struct access_user *held = access_user_hold(access_user(r.access, "ann"));
    rig_user_delete(&r, "ann");
    rig_user(&r, "ann", "y", NULL);
    assert_true(held->deleted);
    assert_string_equal(held->name, "ann");
    assert_false(access_may_enter(r.access, held, "/"));
    assert_false(access_user(r.access, "ann")->deleted);
    rig_release(&r);
    assert_string_equal(held->tags, "monitoring");
    access_user_release(held);
}

static void changes_take_effect_in_order_without_waiting(void **state) {
    struct rig r;
    rig_init(&r);
    access_user_put(r.access, &(struct access_user_put){.name = "ann", .password = "takes a while"}, rig_done, &r);
    access_vhost_put(r.access, &(struct access_vhost_info){.name = "blue"}, rig_done, &r);
    access_permission_put(r.access, &(struct access_permission){"ann", "blue", "1", "2", "3"}, rig_done, &r);
    access_user_put(r.access, &(struct access_user_put){.name = "ben", .password = "takes a while"}, rig_done, &r);
    access_user_delete(r.access, "ben", rig_done, &r);
    assert_int_equal(rig_wait(&r, 5), ERR_OK);
    assert_string_equal(permissions(&r), "ann=blue 1|2|3;guest=/ .*|.*|.*;");
    assert_string_equal(users(&r), "ann=;guest=administrator;");
    rig_release(&r);
}

static void names_are_short_utf8_and_not_empty(void **state) {
    struct rig r;
    char name[300];
    rig_init(&r);
    memset(name, 'n', sizeof name);
    name[256] = '\0';
    assert_int_equal(rig_user(&r, "", "x", NULL), ERR_INVALID);
    assert_int_equal(rig_user(&r, name, "x", NULL), ERR_INVALID);
    assert_int_equal(rig_user(&r, "\xff", "x", NULL), ERR_INVALID);
    assert_int_equal(rig_vhost(&r, ""), ERR_INVALID);
    assert_int_equal(rig_vhost(&r, name), ERR_INVALID);
    name[255] = '\0';
    assert_int_equal(rig_user(&r, name, "x", NULL), ERR_OK);
    assert_int_equal(rig_vhost(&r, name), ERR_OK);
    assert_int_equal(rig_permission(&r, name, name, ".*", ".*", ".*"), ERR_OK);
    assert_int_equal(rig_login(&r, name, "x", RIG_FAR), ERR_OK);
    assert_int_equal(rig_user(&r, "ann", "x", "\xff"), ERR_INVALID);
    rig_release(&r);
}

static void there_is_an_end_to_users_and_vhosts(void **state) {
    struct rig r;
    memset(&r, 0, sizeof r);
    test_io_init(&r.io, 1);
    r.o.max_users = 3;
    r.o.max_vhosts = 2;
    rig_open_database(&r);
    rig_open_access(&r);
    assert_int_equal(rig_user(&r, "a", NULL, NULL), ERR_OK);
    access_user_put(r.access, &(struct access_user_put){.name = "b"}, rig_done, &r);
    access_user_put(r.access, &(struct access_user_put){.name = "c"}, rig_done, &r);
    rig_wait(&r, 2);
    assert_string_equal(users(&r), "a=;b=;guest=administrator;");
    assert_int_equal(rig_user(&r, "d", NULL, NULL), ERR_LIMIT);
    assert_int_equal(rig_user(&r, "a", "changed", NULL), ERR_OK);
    rig_user_delete(&r, "a");
    assert_int_equal(rig_user(&r, "d", NULL, NULL), ERR_OK);
    assert_int_equal(rig_vhost(&r, "a"), ERR_OK);
    assert_int_equal(rig_vhost(&r, "b"), ERR_LIMIT);
    assert_int_equal(rig_vhost(&r, "a"), ERR_OK);
    rig_release(&r);
}

static void can_end_with_everything_under_way(void **state) {
    struct rig r;
    rig_init(&r);
    for (int i = 0; i < 6; i++) {
        char name[8];
        snprintf(name, sizeof name, "u%d", i);
        access_user_put(r.access, &(struct access_user_put){.name = name, .password = "secret"}, rig_done, &r);
        access_login(r.access, name, "secret", RIG_FAR, false, rig_logged_in, &r);
    }
    access_vhost_put(r.access, &(struct access_vhost_info){.name = "blue"}, rig_done, &r);
    r.expected = 100; // nobody is called back any more
    rig_release(&r);
    assert_int_equal(r.expected, 100);
}

int main(void) {
    if (rig_skips()) return 77;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(begins_as_rabbitmq_does),
        cmocka_unit_test(what_was_deleted_does_not_come_back),
        cmocka_unit_test(changes_survive_a_restart),
        cmocka_unit_test(tags_say_what_a_user_may),
        cmocka_unit_test(a_put_keeps_what_it_does_not_name),
        cmocka_unit_test(permission_is_what_the_patterns_match),
        cmocka_unit_test(a_permission_wants_user_vhost_and_patterns),
        cmocka_unit_test(permissions_go_with_their_user_or_vhost),
        cmocka_unit_test(a_held_user_outlives_its_deletion),
        cmocka_unit_test(changes_take_effect_in_order_without_waiting),
        cmocka_unit_test(names_are_short_utf8_and_not_empty),
        cmocka_unit_test(there_is_an_end_to_users_and_vhosts),
        cmocka_unit_test(can_end_with_everything_under_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
