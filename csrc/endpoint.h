/* endpoint.h - endpoint.c for the pump. */
#ifndef HUSSH_ENDPOINT_H
#define HUSSH_ENDPOINT_H

#include "channel.h"

/* Moves what can move between the local sockets of a tree and their channels, each a slice
 * at most; returns the number of bytes. */
size_t endpoints_run(hussh_link *root);
/* 1 if some of them have more to move. */
int endpoints_wait(const hussh_link *root);

#endif
