// Structured logs: one line a record, logfmt, on stderr: `ts=… level=info event=accepted message_id=… …`.
// Values are quoted when they need it; a newline in a value can never forge a record.
#ifndef BARID_BASE_LOG_H
#define BARID_BASE_LOG_H

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

void log_set_level(enum log_level level);
int log_level_parse(const char *text, enum log_level *out); // 0, or -1 when unknown

// `event` is a fixed word; then key, value pairs of strings, ended by NULL. Thread-safe.
//   log_event(LOG_INFO, "accepted", "message_id", id, "conversation_id", c, NULL);
void log_event(enum log_level level, const char *event, ...) __attribute__((sentinel));
// For numbers and longer texts: `text` becomes the value of `msg`.
void log_text(enum log_level level, const char *event, const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif
