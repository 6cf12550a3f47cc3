#include "client/progress.h"

#include "client/render.h"

#define WIDTH     24
#define REDRAW_MS 100

void progress_render(struct buf *out, const char *name, uint64_t done, uint64_t total, uint64_t elapsed_ms) {
    render_safe(out, name, false);
    buf_add_str(out, "  ");
    if (total > 0) {
        double part = done < total ? (double)done / (double)total : 1.0;
        for (int i = 0; i < WIDTH; i++) buf_add_str(out, i < (int)(part * WIDTH + 0.5) ? "█" : "░");
        buf_printf(out, " %3d %%  ", (int)(part * 100));
    }
    render_bytes(out, done);
    if (total > 0) {
        buf_add_str(out, " of ");
        render_bytes(out, total);
    }
    if (elapsed_ms > 0) {
        buf_add_str(out, "  ");
        render_bytes(out, (uint64_t)((double)done * 1000 / (double)elapsed_ms));
        buf_add_str(out, "/s");
    }
}

bool progress_due(struct progress *p, uint64_t now_ms, uint64_t done, uint64_t total) {
    bool first = p->started_ms == 0;
    if (first) p->started_ms = now_ms ? now_ms : 1;
    if (!first && (total == 0 || done < total) && now_ms - p->shown_ms < REDRAW_MS) return false;
    p->shown_ms = now_ms;
    return true;
}
