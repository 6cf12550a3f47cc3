// /api/users and /api/permissions.
#include "management/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ORDER_TEXT 600

// ---- users: looking -------------------------------------------------------------------------------------

static void write_user(struct out *o, const struct access_user *u) {
    out_text(o, "name", u->name);
    out_text(o, "password_hash", u->hash != NULL ? u->hash : "");
    out_text(o, "hashing_algorithm", u->hash_algorithm != NULL ? u->hash_algorithm : "");
    write_tags(o, "tags", u->tags);
    out_open(o, "limits", '{');
    out_close(o, '}');
}

static void list_user(void *arg, const struct access_user *u) {
    struct listing *l = arg;
    struct out *o = listing_item(l, u->name, u->name);
    if (o == NULL) return;
    write_user(o, u);
    listing_item_end(l);
}

void manage_users(struct call *c) {
    struct listing l;
    if (!listing_init(&l, c)) return;
    access_each_user(c->management->o.access, list_user, &l);
    listing_answer(&l);
}

struct permitted {
    const char *user;
    bool found;
};

static void look_permitted(void *arg, const struct access_permission *p) {
    struct permitted *s = arg;
    s->found = s->found || strcmp(p->user, s->user) == 0;
}

static void list_without(void *arg, const struct access_user *u) {
    struct listing *l = arg;
    struct permitted s = {.user = u->name};
    access_each_permission(l->call->management->o.access, look_permitted, &s);
    if (!s.found) list_user(l, u);
}

void manage_users_without_permissions(struct call *c) {
    struct listing l;
    if (!listing_init(&l, c)) return;
    access_each_user(c->management->o.access, list_without, &l);
    listing_answer(&l);
}

static bool find_user(struct call *c) {
    if (access_user(c->management->o.access, call_param(c, "user")) != NULL) return true;
    call_not_found(c, "user");
    return false;
}

void manage_user(struct call *c) {
    struct single s;
    if (!find_user(c)) return;
    struct out *o = single_init(&s, c);
    if (o == NULL) return;
    write_user(o, access_user(c->management->o.access, call_param(c, "user")));
    single_answer(&s);
}

// ---- users: changing ------------------------------------------------------------------------------------

static void on_done(void *arg, enum err err, const struct error *e) {
    struct call *c = arg;
    if (err != ERR_OK) call_error(c, e);
    else call_empty(c, c->status);
}

void user_of_json(const json_t *o, const char *name, const char *tags, struct access_user_put *out) {
    *out = (struct access_user_put){
        .name = name,
        .password = json_text_or(o, "password", NULL),
        .hash = json_text_or(o, "password_hash", NULL),
        .hash_algorithm = json_text_or(o, "hashing_algorithm", "rabbit_password_hashing_sha256"),
        .tags = tags,
    };
    if (out->password != NULL || (out->hash != NULL && *out->hash == '\0')) out->hash = NULL;
    if (out->hash == NULL) out->hash_algorithm = NULL;
}

void manage_user_put(struct call *c) {
    struct management *m = c->management;
    struct access_user_put put;
    const char *name = call_param(c, "user");
    if (call_json(c) == NULL) return;
    char *tags = tags_of(c->json);
    if (tags == NULL) {
        call_fail(c, 400, "bad_request", "key_missing: tags");
        return;
    }
    user_of_json(c->json, name, tags, &put);
    c->status = access_user(m->o.access, name) != NULL ? 204 : 201;
    access_user_put(m->o.access, &put, on_done, c);
    free(tags);
}

static void close_user(struct management *m, const char *name) {
    if (m->o.amqp != NULL) amqp_close_user(m->o.amqp, name);
}

static void on_user_deleted(void *arg, enum err err, const struct error *e) {
    struct call *c = arg;
    if (err == ERR_OK) close_user(c->management, call_param(c, "user"));
    on_done(c, err, e);
}

void manage_user_delete(struct call *c) {
    if (!find_user(c)) return;
    c->status = 204;
    access_user_delete(c->management->o.access, call_param(c, "user"), on_user_deleted, c);
}

// The last one's end is the end of all: they take effect in order.
static void on_one_deleted(void *arg, enum err err, const struct error *e) {}

void manage_users_bulk_delete(struct call *c) {
    struct management *m = c->management;
    size_t i;
    json_t *name;
    if (call_json(c) == NULL) return;
    const json_t *users = json_object_get(c->json, "users");
    const char *last = NULL;
    json_array_foreach(users, i, name) {
        if (!json_is_string(name) || access_user(m->o.access, json_string_value(name)) == NULL) continue;
        if (last != NULL) access_user_delete(m->o.access, last, on_one_deleted, NULL);
        last = json_string_value(name);
    }
    c->status = 204;
    if (last != NULL) access_user_delete(m->o.access, last, on_done, c);
    else call_empty(c, 204);
}

// ---- permissions ----------------------------------------------------------------------------------------

struct listed {
    struct listing listing;
    const char *user, *vhost; // NULL: any
};

static void write_permission(struct out *o, const struct access_permission *p) {
    out_text(o, "user", p->user);
    out_text(o, "vhost", p->vhost);
    out_text(o, "configure", p->configure);
    out_text(o, "write", p->write);
    out_text(o, "read", p->read);
}

static void list_permission(void *arg, const struct access_permission *p) {
    struct listed *l = arg;
    char order[ORDER_TEXT];
    if (l->user != NULL && strcmp(l->user, p->user) != 0) return;
    if (l->vhost != NULL && strcmp(l->vhost, p->vhost) != 0) return;
    snprintf(order, sizeof order, "%s\1%s", p->vhost, p->user);
    struct out *o = listing_item(&l->listing, p->user, order);
    if (o == NULL) return;
    write_permission(o, p);
    listing_item_end(&l->listing);
}

static void list_permissions(struct call *c, const char *user, const char *vhost) {
    struct listed l = {.user = user, .vhost = vhost};
    if (!listing_init(&l.listing, c)) return;
    access_each_permission(c->management->o.access, list_permission, &l);
    listing_answer(&l.listing);
}

void manage_permissions(struct call *c) { list_permissions(c, NULL, NULL); }

void manage_permissions_of_user(struct call *c) {
    if (find_user(c)) list_permissions(c, call_param(c, "user"), NULL);
}

void manage_permissions_of_vhost(struct call *c) { list_permissions(c, NULL, call_param(c, "vhost")); }

struct sought {
    const char *user, *vhost;
    struct out *out; // NULL: only to know
    bool found;
};

static void look_at(void *arg, const struct access_permission *p) {
    struct sought *s = arg;
    if (strcmp(s->user, p->user) != 0 || strcmp(s->vhost, p->vhost) != 0) return;
    s->found = true;
    if (s->out != NULL) write_permission(s->out, p);
}

static bool has_permission(struct call *c, struct out *out) {
    struct sought s = {.user = call_param(c, "user"), .vhost = call_param(c, "vhost"), .out = out};
    access_each_permission(c->management->o.access, look_at, &s);
    return s.found;
}

void manage_permission(struct call *c) {
    struct single s;
    if (!has_permission(c, NULL)) {
        call_not_found(c, "permission");
        return;
    }
    struct out *o = single_init(&s, c);
    if (o == NULL) return;
    has_permission(c, o);
    single_answer(&s);
}

void manage_permission_put(struct call *c) {
    if (!find_user(c) || call_json(c) == NULL) return;
    const struct access_permission p = {
        .user = call_param(c, "user"),
        .vhost = call_param(c, "vhost"),
        .configure = json_text_or(c->json, "configure", NULL),
        .write = json_text_or(c->json, "write", NULL),
        .read = json_text_or(c->json, "read", NULL),
    };
    if (p.configure == NULL || p.write == NULL || p.read == NULL) {
        call_fail(c, 400, "bad_request", "key_missing: configure, write and read are all needed");
        return;
    }
    c->status = has_permission(c, NULL) ? 204 : 201;
    access_permission_put(c->management->o.access, &p, on_done, c);
}

void manage_permission_delete(struct call *c) {
    if (!has_permission(c, NULL)) {
        call_not_found(c, "permission");
        return;
    }
    c->status = 204;
    access_permission_delete(c->management->o.access, call_param(c, "user"), call_param(c, "vhost"), on_done, c);
}
