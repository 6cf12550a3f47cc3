// The decision tables of recovery.c and salvage.c, case by case: what is done to a sound journal, what an opening
// answers, how many records come back, what repair keeps.
//
// The journal used: segment 1 full and segment 2 begun, in batches of four records; then a spare.
#include "journal/owner_test.h"

#include "base/log.h"
#include "journal/check.h"
#include "journal/format.h"

#define RECORDS 76
#define BODY    1500
#define SIZE    (64u << 10)
#define SEG1    "journal/0000000001.seg"
#define SEG2    "journal/0000000002.seg"
#define SEG3    "journal/0000000003.seg"

struct places {
    uint64_t second_item;     // index of the first item in segment 2
    uint64_t last_frame, end; // of segment 2: the last batch, and behind it
    uint64_t sealed_end;
};

struct outcome {
    enum err open;        // what an opening without repair answers
    int records;          // replayed by it
    int repaired_records; // replayed after a repair; 0: no repair is needed
};

struct table_row {
    const char *name;
    bool sealed; // closed cleanly first
    void (*damage)(struct io_sim *sim, struct owner *o, const struct places *p);
    struct outcome expect; // records: RECORDS minus so many lost
};

static uint64_t record_at(struct owner *o, uint64_t item) { return o->items[item].ref.offset; }

static struct owner *journal_made(bool sealed, struct places *p) {
    struct io_sim *sim = io_sim_new(42);
    struct owner *o = owner_new(sim);
    assert_int_equal(owner_open(o), ERR_OK);
    for (int i = 0; i < RECORDS; i++) {
        assert_int_equal(owner_publish(o, BODY), ERR_OK);
        if (i % 4 == 3) assert_int_equal(owner_flush(o), ERR_OK);
    }
    *p = (struct places){0};
    while (o->items[p->second_item].ref.segment == 1) p->second_item++;
    p->last_frame = record_at(o, RECORDS - 4) - FRAME_BYTES;
    p->end = record_at(o, RECORDS - 1) + record_size(12 + BODY);
    p->sealed_end = p->end + FRAME_BYTES;
    if (sealed) journal_close(o->j);
    else owner_crash(o, false);
    o->j = NULL;
    return o;
}

static void zero(struct io_sim *sim, const char *path, uint64_t from, uint64_t to) {
    static const uint8_t zeros[SIZE];
    assert_true(io_sim_poke(sim, path, from, zeros, to - from));
}

static void set_byte(struct io_sim *sim, const char *path, uint64_t at, uint8_t value) {
    assert_true(io_sim_poke(sim, path, at, &value, 1));
}

// --- what is done ---

static void nothing(struct io_sim *sim, struct owner *o, const struct places *p) {}
static void tail_header_zero(struct io_sim *sim, struct owner *o, const struct places *p) {
    zero(sim, SEG2, p->last_frame, p->last_frame + FRAME_BYTES);
}
static void tail_header_torn(struct io_sim *sim, struct owner *o, const struct places *p) {
    zero(sim, SEG2, p->last_frame + 20, p->last_frame + FRAME_BYTES);
}
static void tail_all_zero(struct io_sim *sim, struct owner *o, const struct places *p) {
    zero(sim, SEG2, p->last_frame, p->end);
}
static void tail_payload_torn(struct io_sim *sim, struct owner *o, const struct places *p) {
    zero(sim, SEG2, record_at(o, RECORDS - 1) + 200, p->end);
}
static void tail_record_header_torn(struct io_sim *sim, struct owner *o, const struct places *p) {
    zero(sim, SEG2, record_at(o, RECORDS - 1), record_at(o, RECORDS - 1) + RECORD_BYTES);
}
static void tail_middle_lost(struct io_sim *sim, struct owner *o, const struct places *p) {
    zero(sim, SEG2, record_at(o, RECORDS - 3) + 100, record_at(o, RECORDS - 3) + 600);
}
static void tail_first_lost(struct io_sim *sim, struct owner *o, const struct places *p) {
    set_byte(sim, SEG2, record_at(o, RECORDS - 4) + 30, 0xee);
}
static void garbage_after_tail(struct io_sim *sim, struct owner *o, const struct places *p) {
    set_byte(sim, SEG2, p->end + 1000, 0xee);
}
static void garbage_at_tail(struct io_sim *sim, struct owner *o, const struct places *p) {
    set_byte(sim, SEG2, p->end, 0xee);
}
static void garbage_at_file_end(struct io_sim *sim, struct owner *o, const struct places *p) {
    set_byte(sim, SEG2, SIZE - 1, 0xee);
}
static void bad_record_before_last_batch(struct io_sim *sim, struct owner *o, const struct places *p) {
    set_byte(sim, SEG2, record_at(o, RECORDS - 6) + 300, 0xee);
}
static void bad_record_length_before_last_batch(struct io_sim *sim, struct owner *o, const struct places *p) {
    set_byte(sim, SEG2, record_at(o, RECORDS - 6) + 10, 0xee);
}
static void bad_frame_before_last_batch(struct io_sim *sim, struct owner *o, const struct places *p) {
    set_byte(sim, SEG2, record_at(o, RECORDS - 8) - FRAME_BYTES + 12, 0xee);
}
static void whole_batch_lost(struct io_sim *sim, struct owner *o, const struct places *p) {
    zero(sim, SEG2, record_at(o, RECORDS - 8) - FRAME_BYTES, record_at(o, RECORDS - 4) - FRAME_BYTES);
}
static void bad_seal(struct io_sim *sim, struct owner *o, const struct places *p) {
    set_byte(sim, SEG2, p->end + 16, 0xee);
}
static void bad_record_in_first(struct io_sim *sim, struct owner *o, const struct places *p) {
    set_byte(sim, SEG1, record_at(o, 10) + 100, 0xee);
}
static void bad_last_record_of_first(struct io_sim *sim, struct owner *o, const struct places *p) {
    set_byte(sim, SEG1, record_at(o, p->second_item - 1) + 100, 0xee);
}
static void bad_first_frame_of_first(struct io_sim *sim, struct owner *o, const struct places *p) {
    set_byte(sim, SEG1, DATA_AT + 3, 0xee);
}
static void first_emptied(struct io_sim *sim, struct owner *o, const struct places *p) {
    zero(sim, SEG1, DATA_AT, SIZE);
}
static void last_batch_of_first_zeroed(struct io_sim *sim, struct owner *o, const struct places *p) {
    uint64_t at = p->second_item / 4 * 4; // the batch that straddles is two frames; its first part is here
    if (at == p->second_item) at -= 4;
    zero(sim, SEG1, record_at(o, at) - FRAME_BYTES, SIZE);
}
static void garbage_after_first(struct io_sim *sim, struct owner *o, const struct places *p) {
    set_byte(sim, SEG1, SIZE - 8, 0xee);
}
static void first_missing(struct io_sim *sim, struct owner *o, const struct places *p) {
    assert_int_equal(io_sim_io(sim)->v->remove(io_sim_io(sim), SEG1), ERR_OK);
}
static void second_missing(struct io_sim *sim, struct owner *o, const struct places *p) {
    assert_int_equal(io_sim_io(sim)->v->remove(io_sim_io(sim), SEG2), ERR_OK);
}
static void header_bad(struct io_sim *sim, struct owner *o, const struct places *p) { set_byte(sim, SEG1, 20, 0xee); }
static void header_copy_bad(struct io_sim *sim, struct owner *o, const struct places *p) {
    set_byte(sim, SEG1, HEADER_COPY_AT + 20, 0xee);
}
static void both_headers_bad(struct io_sim *sim, struct owner *o, const struct places *p) {
    header_bad(sim, o, p);
    header_copy_bad(sim, o, p);
}
static void last_headers_bad(struct io_sim *sim, struct owner *o, const struct places *p) {
    set_byte(sim, SEG2, 20, 0xee);
    set_byte(sim, SEG2, HEADER_COPY_AT + 20, 0xee);
}
static void foreign_file(struct io_sim *sim, struct owner *o, const struct places *p) {
    static uint8_t text[SIZE];
    memset(text, 'x', sizeof text);
    assert_true(io_sim_poke(sim, SEG1, 0, text, sizeof text));
}
static void version_newer(struct io_sim *sim, struct owner *o, const struct places *p) {
    set_byte(sim, SEG1, 8, 2);
    set_byte(sim, SEG1, HEADER_COPY_AT + 8, 2);
}
static void other_number(struct io_sim *sim, struct owner *o, const struct places *p) {
    uint8_t header[DATA_AT];
    assert_true(io_sim_peek(sim, SEG2, 0, header, sizeof header));
    assert_true(io_sim_poke(sim, SEG1, 0, header, sizeof header));
}
static void truncated(struct io_sim *sim, struct owner *o, const struct places *p) {
    struct io *io = io_sim_io(sim);
    int fd;
    assert_int_equal(io->v->open(io, SEG2, IO_WRITE, &fd), ERR_OK);
    assert_int_equal(io->v->truncate(io, fd, record_at(o, RECORDS - 1) + 8), ERR_OK);
    io->v->close(io, fd);
}
static void make_file(struct io_sim *sim, const char *path, uint64_t bytes) {
    struct io *io = io_sim_io(sim);
    int fd;
    (void)io->v->remove(io, path);
    assert_int_equal(io->v->open(io, path, IO_WRITE | IO_CREATE, &fd), ERR_OK);
    assert_int_equal(io->v->truncate(io, fd, bytes), ERR_OK);
    io->v->close(io, fd);
}
static void spare_half_made(struct io_sim *sim, struct owner *o, const struct places *p) {
    make_file(sim, SEG3, 12345);
}
static void spare_empty(struct io_sim *sim, struct owner *o, const struct places *p) { make_file(sim, SEG3, 0); }
static void spare_header_torn(struct io_sim *sim, struct owner *o, const struct places *p) {
    make_file(sim, SEG3, SIZE);
    uint8_t header[DATA_AT] = {0};
    assert_true(io_sim_peek(sim, SEG2, 0, header, 30));
    assert_true(io_sim_poke(sim, SEG3, 0, header, sizeof header));
}
static void other_names(struct io_sim *sim, struct owner *o, const struct places *p) {
    make_file(sim, "journal/README", 100);
    make_file(sim, "journal/1.seg", 100);
    make_file(sim, "journal/0000000001.seg.bak", 100);
}
static void spare_has_garbage(struct io_sim *sim, struct owner *o, const struct places *p) {
    make_file(sim, SEG3, SIZE); // no header, and data: that was a segment once
    set_byte(sim, SEG3, DATA_AT + 100, 0xee);
}

#define ALL  RECORDS
#define NONE 0

static const struct table_row table[] = {
    {"clean end", true, nothing, {ERR_OK, ALL, NONE}},
    {"killed after a batch", false, nothing, {ERR_OK, ALL, NONE}},
    {"tail: frame header lost, records landed", false, tail_header_zero, {ERR_OK, ALL - 4, NONE}},
    {"tail: frame header torn", false, tail_header_torn, {ERR_OK, ALL - 4, NONE}},
    {"tail: nothing landed", false, tail_all_zero, {ERR_OK, ALL - 4, NONE}},
    {"tail: last payload torn", false, tail_payload_torn, {ERR_OK, ALL - 1, NONE}},
    {"tail: last record's header torn", false, tail_record_header_torn, {ERR_OK, ALL - 1, NONE}},
    {"tail: a middle sector lost, valid records behind it", false, tail_middle_lost, {ERR_OK, ALL - 3, NONE}},
    {"tail: the first record lost", false, tail_first_lost, {ERR_OK, ALL - 4, NONE}},
    {"garbage behind the tail", false, garbage_after_tail, {ERR_OK, ALL, NONE}},
    {"garbage at the tail", false, garbage_at_tail, {ERR_OK, ALL, NONE}},
    {"garbage at the end of the file", false, garbage_at_file_end, {ERR_OK, ALL, NONE}},
    {"the seal is torn", true, bad_seal, {ERR_OK, ALL, NONE}},
    {"sealed: last payload bad", true, tail_payload_torn, {ERR_CORRUPT, 0, ALL - 1}},
    {"sealed: last frame header bad", true, tail_header_torn, {ERR_CORRUPT, 0, ALL}},
    {"sealed: last batch zero", true, tail_all_zero, {ERR_CORRUPT, 0, ALL - 4}},
    {"bad record, a batch behind it", false, bad_record_before_last_batch, {ERR_CORRUPT, 0, ALL - 1}},
    {"bad length, a batch behind it", false, bad_record_length_before_last_batch, {ERR_CORRUPT, 0, ALL - 1}},
    {"bad frame, a batch behind it", false, bad_frame_before_last_batch, {ERR_CORRUPT, 0, ALL}},
    {"a batch is zeros, a batch behind it", false, whole_batch_lost, {ERR_CORRUPT, 0, ALL - 4}},
    {"earlier segment: bad record", false, bad_record_in_first, {ERR_CORRUPT, 0, ALL - 1}},
    {"earlier segment: last record bad", false, bad_last_record_of_first, {ERR_CORRUPT, 0, ALL - 1}},
    {"earlier segment: first frame bad", false, bad_first_frame_of_first, {ERR_CORRUPT, 0, ALL}},
    {"earlier segment: all zeros", false, first_emptied, {ERR_CORRUPT, 0, -1}},
    {"earlier segment: last batch zeros", false, last_batch_of_first_zeroed, {ERR_CORRUPT, 0, -2}},
    {"earlier segment: garbage behind the end", false, garbage_after_first, {ERR_CORRUPT, 0, ALL}},
    {"first segment missing", false, first_missing, {ERR_CORRUPT, 0, -1}},
    {"last segment missing, the spare there", true, second_missing, {ERR_CORRUPT, 0, -3}},
    {"header bad, its copy good", false, header_bad, {ERR_OK, ALL, NONE}},
    {"header good, its copy bad", false, header_copy_bad, {ERR_OK, ALL, NONE}},
    {"both headers bad", false, both_headers_bad, {ERR_CORRUPT, 0, -1}},
    {"both headers of the last bad", false, last_headers_bad, {ERR_CORRUPT, 0, -3}},
    {"a foreign file under a segment's name", false, foreign_file, {ERR_CORRUPT, 0, -1}},
    {"newer version", false, version_newer, {ERR_VERSION, 0, NONE}},
    {"another segment's file", false, other_number, {ERR_CORRUPT, 0, -1}},
    {"file cut short", false, truncated, {ERR_CORRUPT, 0, ALL - 1}},
    {"spare half made", false, spare_half_made, {ERR_OK, ALL, NONE}},
    {"spare without a byte", false, spare_empty, {ERR_OK, ALL, NONE}},
    {"spare's header torn", false, spare_header_torn, {ERR_OK, ALL, NONE}},
    {"data without a header behind the last", false, spare_has_garbage, {ERR_CORRUPT, 0, ALL}},
    {"names that are not segments", false, other_names, {ERR_OK, ALL, NONE}},
};

struct counting {
    int records;
    int findings, lost;
};

static enum err count(void *arg, const struct journal_record *r, struct error *e) {
    (void)e;
    ((struct counting *)arg)->records++;
    assert_int_equal(r->length, 12 + BODY);
    return ERR_OK;
}

static void count_finding(void *arg, const struct finding *f) {
    struct counting *c = arg;
    c->findings++;
    c->lost += f->kind == FINDING_LOST;
    assert_true(strncmp(f->file, "journal/", 8) == 0 && f->what != NULL);
}

// -1: all but segment 1; -2: all but its last batch; -3: segment 1 only.
static int wanted(int records, const struct places *p) {
    int in_first = (int)p->second_item, part = in_first % 4 == 0 ? 4 : in_first % 4;
    if (records == -1) return RECORDS - in_first;
    if (records == -2) return RECORDS - part;
    return records == -3 ? in_first : records;
}

static enum err open_counting(struct owner *o, struct counting *c) {
    *c = (struct counting){0};
    struct error e = {0};
    enum err err = journal_open(&o->j, io_sim_io(o->sim), &o->options, count, c, &e);
    if (err == ERR_CORRUPT) {
        assert_non_null(strstr(e.text, "journal/00000000"));
        assert_non_null(strstr(e.text, "barid check --repair"));
    }
    if (err != ERR_OK) assert_null(o->j);
    return err;
}

static void append_after(struct owner *o) {
    assert_int_equal(owner_publish(o, BODY), ERR_OK);
    assert_int_equal(owner_flush(o), ERR_OK);
    owner_crash(o, true);
}

static uint64_t fingerprint(struct io_sim *sim) {
    static uint8_t bytes[SIZE];
    static const char *files[] = {SEG1, SEG2, SEG3};
    uint64_t sum = 0, size;
    for (int i = 0; i < 3; i++) {
        if (!io_sim_size(sim, files[i], &size) || size > SIZE) continue;
        assert_true(io_sim_peek(sim, files[i], 0, bytes, size));
        for (uint64_t b = 0; b < size; b++) sum = sum * 31 + bytes[b];
        sum += size;
    }
    return sum;
}

static void check_row(const struct table_row *row) {
    struct places p;
    struct owner *o = journal_made(row->sealed, &p);
    struct io_sim *sim = o->sim;
    row->damage(sim, o, &p);

    uint64_t before = fingerprint(sim);
    struct counting c = {0};
    struct check_result result;
    struct error e = {0};
    enum err err = journal_check(io_sim_io(sim), OWNER_DIR, false, count_finding, &c, &result, &e);
    if (err != row->expect.open) fail_msg("%s: check says %s, %s", row->name, err_name(err), e.text);
    if (err == ERR_OK && result.records != (uint64_t)row->expect.records)
        fail_msg("%s: check counts %d", row->name, (int)result.records);
    if (err == ERR_CORRUPT) assert_true(result.lost_ranges > 0 && c.lost == (int)result.lost_ranges);
    int checked = (int)result.records;
    if (fingerprint(sim) != before) fail_msg("%s: a check has changed something", row->name);

    err = open_counting(o, &c);
    if (err != row->expect.open) fail_msg("%s: opening answers %s", row->name, err_name(err));
    if (err == ERR_OK && c.records != row->expect.records)
        fail_msg("%s: %d records replayed, not %d", row->name, c.records, row->expect.records);
    int left = row->expect.records;
    if (err == ERR_CORRUPT) {
        left = wanted(row->expect.repaired_records, &p);
        if (checked != left) fail_msg("%s: check foretells %d records, not %d", row->name, checked, left);
        o->options.repair = true;
        err = open_counting(o, &c);
        o->options.repair = false;
        if (err != ERR_OK) fail_msg("%s: repair answers %s", row->name, err_name(err));
        if (c.records != left) fail_msg("%s: %d records salvaged, not %d", row->name, c.records, left);
    }
    for (int more = 1; more < 4 && err == ERR_OK; more++) { // it goes on from there as a sound journal
        append_after(o);
        err = open_counting(o, &c);
        if (err != ERR_OK || c.records != left + more)
            fail_msg("%s: later %s, %d records, not %d", row->name, err_name(err), c.records, left + more);
    }
    owner_free(o);
    io_sim_free(sim);
}

static void every_case_of_the_table(void **state) {
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) check_row(&table[i]);
}

// One bit anywhere in a sealed journal: either it opens with all records (a copy of the header, or zeros behind the
// end were hit), or it says so and repair keeps all but at most one record.
static void any_flipped_bit_is_noticed_and_costs_one_record(void **state) {
    struct places p;
    for (uint64_t at = 0; at < 2 * SIZE; at += 97) {
        struct owner *o = journal_made(true, &p);
        struct counting c;
        uint64_t offset = at % SIZE;
        assert_true(io_sim_flip(o->sim, at < SIZE ? SEG1 : SEG2, offset, (unsigned)at));
        enum err err = open_counting(o, &c);
        if (err == ERR_OK) {
            assert_int_equal(c.records, RECORDS);
        } else {
            assert_int_equal(err, ERR_CORRUPT);
            o->options.repair = true;
            assert_int_equal(open_counting(o, &c), ERR_OK);
            if (c.records < RECORDS - 1) fail_msg("a bit at %d cost %d records", (int)at, RECORDS - c.records);
        }
        struct io_sim *sim = o->sim;
        owner_free(o);
        io_sim_free(sim);
    }
}

static void a_check_of_nothing_is_not_found(void **state) {
    struct io_sim *sim = io_sim_new(1);
    struct check_result result;
    struct error e;
    assert_int_equal(journal_check(io_sim_io(sim), "journal", false, NULL, NULL, &result, &e), ERR_NOT_FOUND);
    io_sim_free(sim);
}

static void a_check_needs_the_journal_for_itself(void **state) {
    struct io_sim *sim = io_sim_new(1);
    struct owner *o = owner_new(sim);
    assert_int_equal(owner_open(o), ERR_OK);
    struct check_result result;
    struct error e;
    assert_int_equal(journal_check(io_sim_io(sim), OWNER_DIR, true, NULL, NULL, &result, &e), ERR_LOCKED);
    owner_free(o);
    io_sim_free(sim);
}

int main(void) {
    log_set_level(LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_case_of_the_table),
        cmocka_unit_test(any_flipped_bit_is_noticed_and_costs_one_record),
        cmocka_unit_test(a_check_of_nothing_is_not_found),
        cmocka_unit_test(a_check_needs_the_journal_for_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
