/* message_hook.h - message_hook.c for link.c, which gives the hook to libssh2. */
#ifndef HUSSH_MESSAGE_HOOK_H
#define HUSSH_MESSAGE_HOOK_H

#include "tree.h"

/* Takes each message that libssh2 has decrypted and verified (patch 0100).
 * Returns 0 where libssh2 has to handle it itself, else 1. */
int link_message_hook(LIBSSH2_SESSION *session, const unsigned char *message, size_t len);

#endif
