// What every test file needs: cmocka and the headers it expects to find included before it.
#ifndef BARID_BASE_TEST_H
#define BARID_BASE_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#endif
