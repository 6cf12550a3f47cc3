// The simulated directory tree: names as they are now, names as a power cut would leave them, and the list of
// changes between the two.
#ifndef BARID_SIM_SIM_NAMES_H
#define BARID_SIM_SIM_NAMES_H

#include "sim/sim_file.h"

struct sim_name {
    char *path;
    struct sim_file *file;
};

struct sim_table {
    struct sim_name *names;
    size_t count, cap;
};

// from NULL: `to` was created. to NULL: `from` was removed. Both: renamed.
struct sim_change {
    char *from, *to;
    struct sim_file *file;
};

struct sim_names {
    struct sim_table now, disk;
    struct sim_change *changes; // not yet synced, oldest first
    size_t change_count, change_cap;
    struct sim_file **files; // every file that a name, a change or a descriptor still needs
    size_t file_count, file_cap;
};

void sim_names_init(struct sim_names *n);
void sim_names_release(struct sim_names *n);
struct sim_file *sim_names_find(const struct sim_names *n, const char *path);
bool sim_names_parent_exists(const struct sim_names *n, const char *path);
bool sim_names_has_children(const struct sim_names *n, const char *path);
struct sim_file *sim_names_create(struct sim_names *n, const char *path, bool is_dir);
void sim_names_remove(struct sim_names *n, const char *path);
void sim_names_rename(struct sim_names *n, const char *from, const char *to);
void sim_names_sync(struct sim_names *n, const char *dir);
void sim_names_crash(struct sim_names *n, struct sim_rng *r); // names and contents
void sim_names_collect(struct sim_names *n);                  // frees files that nothing needs
// The last part of `path` when it lies directly in `dir`, else NULL.
const char *sim_path_in(const char *path, const char *dir);

#endif
