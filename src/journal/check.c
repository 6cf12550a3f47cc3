#include "journal/check.h"

#include "journal/recovery.h"

struct checking {
    struct check_result *result;
    finding_fn *report;
    void *arg;
};

static void count_finding(void *arg, const struct finding *f) {
    struct checking *c = arg;
    if (f->kind == FINDING_TORN) c->result->torn_bytes += f->bytes;
    if (f->kind == FINDING_LOST) {
        c->result->lost_ranges++;
        c->result->lost_bytes += f->bytes;
    }
    if (c->report != NULL) c->report(c->arg, f);
}

static enum err count_record(void *arg, const struct journal_record *r, struct error *e) {
    (void)e;
    struct checking *c = arg;
    c->result->records++;
    c->result->record_bytes += r->length;
    return ERR_OK;
}

enum err journal_check(struct io *io, const char *dir, bool repair, finding_fn *report, void *arg,
                       struct check_result *result, struct error *e) {
    *result = (struct check_result){0};
    struct checking c = {.result = result, .report = report, .arg = arg};
    struct journal_options o = {.dir = dir};
    struct recovery_options how = {.mode = repair ? RECOVERY_REPAIR : RECOVERY_CHECK,
                                   .replay = count_record,
                                   .arg = &c,
                                   .report = count_finding,
                                   .report_arg = &c};
    struct journal *j;
    enum err err = journal_open_as(&j, io, &o, &how, e);
    if (err != ERR_OK) return err;
    result->segments = j->seg_count;
    journal_discard(j);
    if (result->lost_ranges == 0 || repair) return ERR_OK;
    return error_set(e, ERR_CORRUPT, "%llu damaged places in %s", (unsigned long long)result->lost_ranges, dir);
}
