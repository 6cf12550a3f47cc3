// Lines typed or piped into standard input, read on the loop without blocking it.
#ifndef BARID_CLI_LINE_INPUT_H
#define BARID_CLI_LINE_INPUT_H

struct loop;
struct line_input;

// `line` without its newline, NULL for one longer than a message may be; `end` once, at the end of the input.
struct line_input *line_input_new(struct loop *loop, void (*line)(void *arg, char *text), void (*end)(void *arg),
                                  void *arg);
void line_input_free(struct line_input *in);

#endif
