// Assertions that stay on. A programmer's error ends the process, naming file, line and expression;
// whatever was not durable was never acknowledged, so ending is safe.
#ifndef BARID_BASE_ASSERT_H
#define BARID_BASE_ASSERT_H

_Noreturn void assert_failed(const char *file, int line, const char *expression);

#define ASSERT(expression) ((expression) ? (void)0 : assert_failed(__FILE__, __LINE__, #expression))

// End the process with a message for the operator (exit code 70): a failed sync, no memory at start.
_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
