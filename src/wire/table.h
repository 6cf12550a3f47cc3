// AMQP 0-9-1 field tables (spec section 4.2.5, with RabbitMQ's errata for the types): what headers and arguments are
// made of. Big endian, as on the wire. Reading is by views into bytes that somebody else owns; nothing is copied.
//
//   table   entries: name (length u8, bytes), type u8, value …       the u32 length before them is not part of it
//   array   entries: type u8, value …                                 likewise
//
//   t bool   b i8  B u8   s i16  u u16   I i32  i u32   l i64 (also L)   f float  d double   D decimal (scale u8, i32)
//   S long string   x bytes   A array   T timestamp u64   F table   V void
#ifndef BARID_WIRE_TABLE_H
#define BARID_WIRE_TABLE_H

#include "base/buf.h"

#include <stdbool.h>
#include <stdint.h>

#define TABLE_DEPTH_MAX 16 // tables and arrays in each other, the outermost counted

enum field_type {
    FIELD_BOOL = 't',
    FIELD_I8 = 'b',
    FIELD_U8 = 'B',
    FIELD_I16 = 's',
    FIELD_U16 = 'u',
    FIELD_I32 = 'I',
    FIELD_U32 = 'i',
    FIELD_I64 = 'l',
    FIELD_FLOAT = 'f',
    FIELD_DOUBLE = 'd',
    FIELD_DECIMAL = 'D',
    FIELD_STRING = 'S',
    FIELD_BYTES = 'x',
    FIELD_ARRAY = 'A',
    FIELD_TIMESTAMP = 'T',
    FIELD_TABLE = 'F',
    FIELD_VOID = 'V',
};

// Bytes that lie somewhere else; not NUL-terminated. Absent: data NULL.
struct view {
    const uint8_t *data;
    uint32_t length;
};
struct view view_of(const char *text);
bool view_is(struct view v, const char *text);

struct field {
    enum field_type type;
    int64_t integer;   // bool, all integers, timestamp, decimal's value
    uint8_t scale;     // decimal
    double real;       // float, double
    struct view bytes; // string, bytes; array and table: their entries
};

// Is every name, type and length right, down to TABLE_DEPTH_MAX? Do this once at the door; the readers below stop
// quietly at what is not.
bool table_check(struct view table);

struct table_cursor {
    struct view rest;
};
struct table_cursor table_begin(struct view table);
bool table_next(struct table_cursor *c, struct view *name, struct field *out); // false: the end
bool array_next(struct table_cursor *c, struct field *out);                    // of an array's entries
bool table_find(struct view table, const char *name, struct field *out);
bool field_integer(const struct field *f, int64_t *out);        // any of the integer types, not bool
bool field_equal(const struct field *a, const struct field *b); // integers of different width are equal by value
// As RabbitMQ compares arguments: same entries in any order. Those of one name in the same order.
bool table_equal(struct view a, struct view b);

// Writing. A table's or array's length is filled in by table_end with what table_start gave. A name longer than 255
// bytes fails the buffer.
size_t table_start(struct buf *b); // the u32 length: also for a table that is not a field
void table_end(struct buf *b, size_t start);
void table_put(struct buf *b, struct view name, const struct field *f); // any type; its entries as they are
void table_put_text(struct buf *b, const char *name, const char *text);
void table_put_integer(struct buf *b, const char *name, int64_t v); // as l
void table_put_bool(struct buf *b, const char *name, bool v);
size_t table_put_table(struct buf *b, const char *name); // then entries, then table_end
size_t table_put_array(struct buf *b, const char *name);
void array_put(struct buf *b, const struct field *f);
size_t array_put_table(struct buf *b);

// Big-endian appenders (base/buf.h writes little endian).
void wire_u16(struct buf *b, uint16_t v);
void wire_u32(struct buf *b, uint32_t v);
void wire_u64(struct buf *b, uint64_t v);
bool wire_short_string(struct buf *b, struct view v); // false: longer than 255, nothing written

#endif
