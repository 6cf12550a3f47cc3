// How a media content is shown: inline only for types that no browser runs, else as an attachment; the file name
// in Content-Disposition as RFC 6266 and RFC 8187 (filename*) want it, safe whatever it contains.
#ifndef BARID_HTTP_DISPOSITION_H
#define BARID_HTTP_DISPOSITION_H

#include <stdbool.h>

struct buf;

bool disposition_inline(const char *media_type);
// `inline; filename="caf_.png"; filename*=UTF-8''caf%C3%A9.png`. `filename` may be NULL.
void disposition_write(struct buf *out, const char *media_type, const char *filename);

#endif
