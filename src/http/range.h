// The Range header (RFC 9110, section 14): one range of bytes. What we do not serve in parts (several ranges,
// other units, nonsense) is answered whole, as the RFC allows.
#ifndef BARID_HTTP_RANGE_H
#define BARID_HTTP_RANGE_H

#include <stddef.h>
#include <stdint.h>

enum range { RANGE_WHOLE, RANGE_PART, RANGE_UNSATISFIABLE };

// `total`: bytes of the content. For RANGE_PART *first..*last are inclusive and within it.
enum range range_parse(const char *text, uint64_t total, uint64_t *first, uint64_t *last);

#endif
