// barid check: is what a data directory holds sound, and the media in PostgreSQL? What would be lost, and, asked for,
// what can be saved?
#include "journal/check.h"
#include "base/hex.h"
#include "base/io.h"
#include "base/log.h"
#include "cli/check_media.h"
#include "cli/check_stored.h"
#include "cli/cli.h"
#include "database/database.h"

#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define FINDINGS_SHOWN 1000 // more are counted, not listed

static const char help[] =
    "Usage: barid check [--data DIR] [--database URL] [--repair] [--json]\n"
    "\n"
    "Reads the journal of a data directory record by record, every media file and every large AMQP body against the "
    "SHA-256 in\n"
    "its name, the database page by page, and looks for media that messages need and that are not there. No server may "
    "be\n"
    "running on the directory.\n"
    "In PostgreSQL it looks for the same, and reads the media that are stored there against their SHA-256. Servers may "
    "be\n"
    "running. Its pages are for its own tools (pg_amcheck).\n"
    "Without --repair not a byte is changed.\n"
    "\n"
    "  --data DIR       the server's data directory; also BARID_DATA; default ./data, unless there is a --database\n"
    "  --database URL   postgresql://…, the server's; also BARID_DATABASE. With --data-store files give --data, too\n"
    "  --repair         salvage a damaged journal: every record that can be read is kept, what is lost is listed.\n"
    "                   Copy the directory first if you can. Segments that cannot be read at all are kept as "
    "*.damaged\n"
    "  --json           one JSON object\n"
    "\n"
    "What is listed:\n"
    "  note    nothing is lost\n"
    "  torn    the end of a batch that was being written when the machine stopped; nothing in it was acknowledged\n"
    "  lost    damage: acknowledged bytes that cannot be read any more. Media and bodies cannot be repaired, only sent "
    "again,\n"
    "          and a damaged database (barid.db) only be put back from a copy, or salvaged with sqlite3's .recover\n"
    "Exit code: 0 sound or repaired, 1 damaged or not checked, 2 wrong usage.\n";

struct checking {
    const char *data;     // NULL: no directory
    const char *database; // in PostgreSQL, or NULL
    bool repair, json;
    uint64_t shown;
    json_t *findings;
    struct check_result journal;
    struct media_result media, bodies; // bodies: of AMQP messages
    struct stored_result stored;
    uint64_t database_damaged; // places
    uint64_t missing;          // media files that the database needs
    struct io *io;
};

static void show(struct checking *c, const char *kind, const char *file, uint64_t offset, uint64_t bytes,
                 const char *what) {
    if (c->shown++ >= FINDINGS_SHOWN) return;
    if (c->json) {
        json_array_append_new(c->findings, json_pack("{s:s,s:s,s:I,s:I,s:s}", "kind", kind, "file", file, "offset",
                                                     (json_int_t)offset, "bytes", (json_int_t)bytes, "what", what));
        return;
    }
    printf("%-4s  %s", kind, file);
    if (bytes > 0) printf("  bytes %llu to %llu", (unsigned long long)offset, (unsigned long long)(offset + bytes));
    printf("  %s\n", what);
}

static void on_finding(void *arg, const struct finding *f) {
    static const char *const kinds[] = {[FINDING_NOTE] = "note", [FINDING_TORN] = "torn", [FINDING_LOST] = "lost"};
    show(arg, kinds[f->kind], f->file, f->offset, f->bytes, f->what);
}

static void on_media(void *arg, const char *file, uint64_t bytes, const char *what) {
    show(arg, "lost", file, 0, bytes, what);
}

static void on_database(void *arg, const char *what) {
    struct checking *c = arg;
    c->database_damaged++;
    show(c, "lost", DATABASE_FILE, 0, 0, what);
}

static void report_json(const struct checking *c, bool sound) {
    json_t *o = json_pack(
        "{s:b,s:b,s:{s:I,s:I,s:I,s:I,s:I,s:I},s:{s:I,s:I,s:I,s:I},s:{s:I,s:I,s:I},s:{s:I},s:O}", "sound", sound,
        "repaired", c->repair && c->journal.lost_ranges > 0, "journal", "segments", (json_int_t)c->journal.segments,
        "records", (json_int_t)c->journal.records, "record_bytes", (json_int_t)c->journal.record_bytes, "torn_bytes",
        (json_int_t)c->journal.torn_bytes, "lost_ranges", (json_int_t)c->journal.lost_ranges, "lost_bytes",
        (json_int_t)c->journal.lost_bytes, "media", "files", (json_int_t)c->media.files, "bytes",
        (json_int_t)c->media.bytes, "damaged", (json_int_t)c->media.damaged, "missing", (json_int_t)c->missing,
        "bodies", "files", (json_int_t)c->bodies.files, "bytes", (json_int_t)c->bodies.bytes, "damaged",
        (json_int_t)c->bodies.damaged, "database", "damaged", (json_int_t)c->database_damaged, "findings", c->findings);
    if (c->database != NULL)
        json_object_set_new(o, "stored",
                            json_pack("{s:I,s:I,s:I,s:I}", "media", (json_int_t)c->stored.media.files, "bytes",
                                      (json_int_t)c->stored.media.bytes, "damaged", (json_int_t)c->stored.media.damaged,
                                      "missing", (json_int_t)c->stored.missing));
    json_dumpf(o, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(o);
}

static void report_directory(const struct checking *c) {
    const struct check_result *j = &c->journal;
    printf("journal: %llu segments, %llu records, %llu bytes", (unsigned long long)j->segments,
           (unsigned long long)j->records, (unsigned long long)j->record_bytes);
    if (j->lost_ranges > 0)
        printf(", %llu damaged places, %llu bytes %s", (unsigned long long)j->lost_ranges,
               (unsigned long long)j->lost_bytes, c->repair ? "given up" : "would be lost");
    printf("\nmedia:   %llu files, %llu bytes", (unsigned long long)c->media.files, (unsigned long long)c->media.bytes);
    if (c->media.damaged > 0) printf(", %llu damaged", (unsigned long long)c->media.damaged);
    if (c->missing > 0) printf(", %llu missing", (unsigned long long)c->missing);
    if (c->bodies.files > 0) {
        printf("\nbodies:  %llu files, %llu bytes", (unsigned long long)c->bodies.files,
               (unsigned long long)c->bodies.bytes);
        if (c->bodies.damaged > 0) printf(", %llu damaged", (unsigned long long)c->bodies.damaged);
    }
    if (c->database_damaged > 0) printf("\ndatabase: %llu damaged places", (unsigned long long)c->database_damaged);
    putchar('\n');
}

static void report_stored(const struct stored_result *s) {
    printf("stored:  %llu media, %llu bytes", (unsigned long long)s->media.files, (unsigned long long)s->media.bytes);
    if (s->media.damaged > 0) printf(", %llu damaged", (unsigned long long)s->media.damaged);
    if (s->missing > 0) printf(", %llu missing", (unsigned long long)s->missing);
    putchar('\n');
}

static void report_text(const struct checking *c, bool sound) {
    bool lost = c->journal.lost_ranges > 0;
    if (c->shown > FINDINGS_SHOWN) printf("and %llu more\n", (unsigned long long)(c->shown - FINDINGS_SHOWN));
    if (c->data != NULL) report_directory(c);
    if (c->database != NULL) report_stored(&c->stored);
    if (sound) puts(c->repair && lost ? "repaired" : "sound");
    else puts(lost && !c->repair ? "damaged: `barid check --repair` salvages the rest" : "damaged");
}

static void on_needed(void *arg, const void *hash, size_t n, int64_t bytes) {
    struct checking *c = arg;
    char file[96] = "media/", *at = file + strlen(file);
    if (n != 32 || media_is_there(c->io, "media", hash)) return;
    hex_encode(hash, 1, at);
    at[2] = '/';
    hex_encode(hash, n, at + 3);
    c->missing++;
    show(c, "lost", file, 0, (uint64_t)bytes, "is needed, and is not there");
}

// What the database says is needed, unless it says nothing that can be trusted.
static enum err check_needed(struct checking *c, const char *path, struct error *e) {
    static const char sql[] = "select hash, max(bytes) from (" MEDIA_NEEDED ") group by hash order by hash";
    if (c->database_damaged > 0) return ERR_OK;
    enum err err = database_rows(path, sql, on_needed, c, e);
    return err == ERR_NOT_FOUND ? ERR_OK : err; // it had not come as far as having tables
}

// A directory whose server never came as far as making one has nothing to lose in it; one with a journal has its
// database elsewhere.
static enum err check_database(struct checking *c, struct error *e) {
    char path[4096];
    if ((size_t)snprintf(path, sizeof path, "%s/" DATABASE_FILE, c->data) >= sizeof path)
        return error_set(e, ERR_INVALID, "the path of the data directory is too long");
    enum err err = database_check(path, on_database, c, e);
    if (err == ERR_OK) return check_needed(c, path, e);
    if (err != ERR_NOT_FOUND) return err;
    if (c->journal.segments > 0 && c->database == NULL)
        show(c, "note", DATABASE_FILE, 0, 0, "is not here: one in PostgreSQL is looked at with --database");
    return ERR_OK;
}

// A server whose bus is elsewhere has no journal; what it has is its own while the file is locked.
static enum err without_journal(struct checking *c, struct io *io, struct error *e) {
    int fd;
    if (io->v->open(io, "lock", IO_READ | IO_WRITE, &fd) != ERR_OK) return ERR_NOT_FOUND;
    if (io->v->lock(io, fd) != ERR_OK) return error_set(e, ERR_LOCKED, "%s is in use by a server", c->data);
    show(c, "note", "journal", 0, 0, "is not here: the server's bus is elsewhere");
    return ERR_OK;
}

static enum err check(struct checking *c, struct io *io, struct error *e) {
    enum err err = journal_check(io, "journal", c->repair, on_finding, c, &c->journal, e);
    if (err == ERR_NOT_FOUND) err = without_journal(c, io, e);
    if (err != ERR_OK && err != ERR_CORRUPT) return err;
    err = check_media(io, "media", on_media, c, &c->media, e);
    if (err == ERR_OK) err = check_media(io, "bodies", on_media, c, &c->bodies, e);
    return err == ERR_OK ? check_database(c, e) : err;
}

static enum err open_directory(const struct checking *c, struct io **io, struct error *e) {
    struct stat info;
    if (c->data == NULL) return ERR_OK;
    if (stat(c->data, &info) != 0 || !S_ISDIR(info.st_mode)) // io_os_new would make it
        return error_set(e, ERR_NOT_FOUND, "there is no directory %s", c->data);
    return io_os_new(io, c->data, e);
}

static int run(struct checking *c) {
    struct error e = {0};
    struct io *io = NULL;
    enum err err = open_directory(c, &io, &e);
    c->io = io;
    if (err == ERR_OK && io != NULL) err = check(c, io, &e);
    if (err == ERR_OK && c->database != NULL) err = check_stored(c->database, io, on_media, c, &c->stored, &e);
    if (io != NULL) io_os_free(io);
    if (err != ERR_OK) {
        fprintf(stderr, "barid check: %s\n", e.text[0] != 0 ? e.text : err_text(err));
        return 1;
    }
    bool sound = (c->journal.lost_ranges == 0 || c->repair) && c->media.damaged == 0 && c->bodies.damaged == 0 &&
                 c->database_damaged == 0 && c->missing == 0 && c->stored.media.damaged == 0 && c->stored.missing == 0;
    if (c->json) report_json(c, sound);
    else report_text(c, sound);
    return sound ? 0 : 1;
}

static const char *from_environment(const char *name) {
    const char *value = getenv(name);
    return value != NULL && value[0] != '\0' ? value : NULL;
}

// As the server takes it: an embedded one is below --data.
static bool choose_database(struct checking *c) {
    if (c->database == NULL) c->database = from_environment("BARID_DATABASE");
    if (c->database != NULL && strcmp(c->database, "sqlite") == 0) c->database = NULL;
    if (c->database != NULL && database_kind(c->database) != DATABASE_POSTGRES) {
        fprintf(stderr, "barid check: --database is a postgresql:// URL; an embedded one is below --data\n");
        return false;
    }
    if (c->data == NULL) c->data = from_environment("BARID_DATA");
    if (c->data == NULL && c->database == NULL) c->data = "data";
    return true;
}

static int parse(struct checking *c, int argc, char **argv) {
    static const struct option options[] = {
        {"data", required_argument, NULL, 'd'}, {"database", required_argument, NULL, 'p'},
        {"repair", no_argument, NULL, 'r'},     {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},       {0}};
    optind = 0;
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (o) {
        case 'd': c->data = optarg; break;
        case 'p': c->database = optarg; break;
        case 'r': c->repair = true; break;
        case 'j': c->json = true; break;
        case 'h': fputs(help, stdout); return 0;
        default: return EXIT_USAGE;
        }
    }
    if (optind == argc) return choose_database(c) ? -1 : EXIT_USAGE;
    fprintf(stderr, "barid check: \"%s\" is not understood; try --help\n", argv[optind]);
    return EXIT_USAGE;
}

int cli_check(int argc, char **argv) {
    struct checking c = {0};
    log_set_level(LOG_ERROR);
    int code = parse(&c, argc, argv);
    if (code >= 0) return code;
    c.findings = json_array();
    code = run(&c);
    json_decref(c.findings);
    return code;
}
