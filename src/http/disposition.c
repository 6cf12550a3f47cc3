// Content-Disposition.
#include "http/disposition.h"

#include "base/buf.h"

#include <ctype.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

// Types that are shown and cannot run anything. SVG and HTML are missing on purpose.
static const char *const shown[] = {
    "image/png",  "image/jpeg", "image/gif",  "image/webp", "audio/mpeg", "audio/ogg",  "audio/wav",  "audio/mp4",
    "audio/webm", "audio/aac",  "audio/flac", "video/mp4",  "video/ogg",  "video/webm", "text/plain",
};

bool disposition_inline(const char *media_type) {
    size_t n = strcspn(media_type, "; \t");
    for (size_t i = 0; i < sizeof shown / sizeof shown[0]; i++)
        if (strlen(shown[i]) == n && strncasecmp(shown[i], media_type, n) == 0) return true;
    return false;
}

static bool attr_char(unsigned char c) { return (isalnum(c) && c < 0x80) || (c != 0 && strchr("!#$&+-.^_`|~", c)); }

static void write_plain(struct buf *out, const char *name) {
    for (const char *s = name; *s != '\0'; s++) {
        unsigned char c = (unsigned char)*s;
        bool keep = c >= 0x20 && c < 0x7f && c != '"' && c != '\\' && c != '%' && c != '/' && c != ';';
        buf_add_u8(out, keep ? c : '_');
    }
}

static void write_encoded(struct buf *out, const char *name) {
    for (const char *s = name; *s != '\0'; s++) {
        unsigned char c = (unsigned char)*s;
        if (attr_char(c)) buf_add_u8(out, c);
        else buf_printf(out, "%%%02X", c);
    }
}

void disposition_write(struct buf *out, const char *media_type, const char *filename) {
    buf_add_str(out, disposition_inline(media_type) ? "inline" : "attachment");
    if (filename == NULL || *filename == '\0') return;
    buf_add_str(out, "; filename=\"");
    write_plain(out, filename);
    buf_add_str(out, "\"; filename*=UTF-8''");
    write_encoded(out, filename);
}
