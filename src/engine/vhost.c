// Virtual hosts: each has its own names.
#include "engine/internal.h"

struct vhost *vhost_by_id(const struct engine *e, uint32_t id) {
    for (uint32_t i = e->n_vhosts; i-- > 0;)
        if (e->vhosts[i]->id == id) return e->vhosts[i];
    return NULL;
}

void vhost_name_put(struct engine *e, struct vhost *v) {
    if (!map_put(&e->vhost_names, v->name, strlen(v->name), v)) die("out of memory");
}

struct vhost *vhost_new(struct engine *e, const char *name, uint32_t id) {
    struct vhost *v = memory_zero(sizeof *v);
    v->engine = e;
    v->name = memory_text(name);
    v->id = id;
    v->declared = name != NULL;
    v->pin = NONE;
    map_init(&v->queues, io_random_u64(e->io));
    map_init(&v->exchanges, io_random_u64(e->io));
    ROOM_FOR_ONE(e->vhosts, e->n_vhosts, e->cap_vhosts);
    e->vhosts[e->n_vhosts++] = v;
    if (id >= e->next_vhost_id) e->next_vhost_id = id + 1;
    if (name) vhost_name_put(e, v);
    exchanges_predeclare(v);
    return v;
}

void vhost_free(struct vhost *v) {
    for (size_t at = 0;;) {
        struct exchange *x = map_next(&v->exchanges, &at);
        if (!x) break;
        exchange_free(x);
    }
    if (v->fallback) exchange_free(v->fallback);
    map_release(&v->exchanges);
    map_release(&v->queues);
    free(v->name);
    free(v);
}

enum err vhost_check(const struct vhost *v, struct error *err) {
    return v->declared ? ERR_OK : error_set(err, ERR_NOT_FOUND, "vhost '%s' was deleted", v->name);
}

// The struct stays until the engine is closed: whoever holds it is told ERR_NOT_FOUND.
void vhost_remove(struct engine *e, struct vhost *v, bool record) {
    v->declared = false;
    if (v->name) map_remove(&e->vhost_names, v->name, strlen(v->name));
    for (uint32_t i = 0; i < e->n_queues; i++)
        if (e->queues[i] && e->queues[i]->vhost == v) queue_remove(e, e->queues[i], record);
    size_t at = 0;
    for (struct exchange *x; (x = map_next(&v->exchanges, &at)); at = 0) exchange_remove(x, record);
    if (v->pin != NONE) pin_drop(e, v->pin, record);
    v->pin = NONE;
}

enum err engine_vhost_add(struct engine *e, const char *name, struct vhost **out, struct error *err) {
    if (name[0] == 0 || strlen(name) > NAME_BYTES)
        return error_field(err, "vhost", "a virtual host's name has 1 to %d bytes", NAME_BYTES);
    struct vhost *v = engine_vhost(e, name);
    if (!v) {
        if (e->vhost_names.len >= e->max_vhosts)
            return error_set(err, ERR_LIMIT, "there are %u virtual hosts already, no more are allowed", e->max_vhosts);
        struct vhost fresh = {.name = (char *)name, .id = e->next_vhost_id};
        struct journal_ref ref;
        enum err code = write_vhost(e, &fresh, 0, &ref);
        if (code) return error_set(err, code, "virtual host %s was not added: %s", name, err_text(code));
        v = vhost_new(e, name, e->next_vhost_id);
        v->pin = pin_new(e, PIN_VHOST, v, &ref);
    }
    if (out) *out = v;
    return ERR_OK;
}

enum err engine_vhost_delete(struct engine *e, const char *name, struct error *err) {
    struct vhost *v = engine_vhost(e, name);
    if (!v) return error_set(err, ERR_NOT_FOUND, "there is no virtual host '%s'", name);
    if (v->id == DEFAULT_VHOST) return error_set(err, ERR_FORBIDDEN, "the virtual host '/' cannot be deleted");
    vhost_remove(e, v, true);
    return ERR_OK;
}

struct vhost *engine_vhost(struct engine *e, const char *name) {
    return map_get(&e->vhost_names, name, strlen(name));
}

const char *vhost_name(const struct vhost *v) { return v->name; }

struct engine *vhost_engine(const struct vhost *v) {
    return v->engine;
}

void engine_each_vhost(struct engine *e, void (*each)(void *arg, struct vhost *v), void *arg) {
    for (uint32_t i = 0; i < e->n_vhosts; i++)
        if (e->vhosts[i]->declared) each(arg, e->vhosts[i]);
}
