/* testing_cipher.h - what the tests of our ciphers share; never part of the library. */
#ifndef HUSSH_TESTING_CIPHER_H
#define HUSSH_TESTING_CIPHER_H

#include "libssh2_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Ends the program, saying which test it is, unless `good`. */
#define check(good, what, detail)                                            \
    check_in(__FILE__, __LINE__, (good), (what), (unsigned)(detail))

static void
check_in(const char *file, int line, int good, const char *what,
         unsigned detail)
{
    if(!good) {
        fprintf(stderr, "%s:%d: %s (%u)\n", file, line, what, detail);
        exit(1);
    }
}

/* Repeatable, and good enough to be different everywhere. */
static void
fill(u_char *data, size_t len)
{
    static uint32_t state = 1;

    while(len--) {
        state = state * 1664525u + 1013904223u;
        *data++ = (u_char)(state >> 24);
    }
}

/* A block of the right size and not one byte more, so that ASan sees. */
static u_char *
exact(size_t len)
{
    u_char *data = malloc(len ? len : 1);

    check(data != NULL, "no memory", len);
    return data;
}

#endif
