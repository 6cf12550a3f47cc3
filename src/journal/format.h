// The bytes of a segment file. Everything is little endian; docs/journal.md draws the same with more words.
//
//   0      header                      64 bytes, written once and synced before anything follows
//   2048   the header again            another sector: one of the two always survives a torn write
//   4096   frame, frame, frame, …      one frame a batch, back to back
//   …      zeros to the end            preallocated
//
//   header                             frame                                record
//    0 u8[8] "BARIDLOG"                 0 u64 checksum of 8..40             0 u64 checksum of 8..24+length
//    8 u32   version                    8 u32 magic "FRM1"                  8 u32 length of the payload
//   12 u32   number of the segment     12 u32 bytes, with this header      12 u8  kind, 0: filler
//   16 u64   salt                      16 u64 batch                        13 u8  flags (enum journal_flags)
//   24 u64   size of the file          24 u64 the batch before it          14 u16 zero
//   32 u32   1: retired                32 u64 jpos of this header          16 u32 refers_to
//   36 u32   covers                    40 records                          20 u32 offset of this record
//   40 u64   jpos    \ retired:                                            24 payload, zeros to 8 bytes
//   48 u64   batch   / where it ended
//   56 u64   checksum of 0..56
//
// Checksums are XXH3-64; those of frames and records are seeded with the segment's salt, which nobody outside
// ever sees: a client cannot put bytes into a message that would be taken for a frame or a record, and what an
// earlier use of the same disk block left behind is never valid. The offset in a record lets a search after
// damage find the next one. A filler stands for a range that repair gave up; its checksum covers 8..24 only.
#ifndef BARID_JOURNAL_FORMAT_H
#define BARID_JOURNAL_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FORMAT_VERSION 1

#define HEADER_BYTES   64u
#define HEADER_COPY_AT 2048u
#define DATA_AT        4096u // where frames begin
#define FRAME_BYTES    40u
#define RECORD_BYTES   24u
#define RECORD_MAX     (512u << 20) // payload

#define HEADER_RETIRED 1u

struct header {
    uint32_t number;
    uint64_t salt, size;
    uint32_t flags, covers;
    uint64_t jpos, batch;
};

enum header_state { HEADER_GOOD, HEADER_BAD, HEADER_NEWER, HEADER_FOREIGN };

struct frame {
    uint32_t bytes;
    uint64_t batch, prev, jpos;
};

struct record_head {
    uint32_t length;
    uint8_t kind, flags;
    uint32_t refers_to, offset;
};

static inline uint64_t padded(uint64_t n) { return (n + 7) & ~(uint64_t)7; }
// What a record with so much payload takes in the file.
static inline uint64_t record_size(uint32_t length) { return padded(RECORD_BYTES + (uint64_t)length); }

void header_encode(const struct header *h, uint8_t out[static HEADER_BYTES]);
enum header_state header_decode(struct header *h, const uint8_t in[static HEADER_BYTES]);

void frame_encode(const struct frame *f, uint64_t salt, uint8_t out[static FRAME_BYTES]);
bool frame_read(struct frame *f, uint64_t salt, const uint8_t in[static FRAME_BYTES]);

// `record` is the whole record in memory, its payload already in place.
void record_seal(const struct record_head *h, uint64_t salt, uint8_t *record);
// Reads the fields and checks all that can be without the payload; `offset` is where it stands.
bool record_decode(struct record_head *h, uint32_t offset, const uint8_t in[static RECORD_BYTES]);
// Checks the whole; `record` holds RECORD_BYTES + length (a filler: RECORD_BYTES).
bool record_verify(const struct record_head *h, uint64_t salt, const uint8_t *record);

#endif
