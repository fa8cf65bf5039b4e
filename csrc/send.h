/* send.h - send.c for the files above it: sending whole messages. */
#ifndef HUSSH_SEND_H
#define HUSSH_SEND_H

#include "tree.h"

/* 1 while keys are exchanged, from our KEXINIT or the peer's to the new keys. */
int link_in_kex(const hussh_link *link);
/* Sends the message head + body, or keeps it until a running key exchange ends.
 * Returns 0 or HUSSH_E_*; after an error the link is dead. */
int link_emit(hussh_link *link, const void *head, size_t head_len, const void *body,
              size_t body_len);
/* Sends what the peer asked for; a link of which too many such messages wait fails. */
void link_answer(hussh_link *link, const void *message, size_t len);
/* Answers that the message which libssh2 reads now is not known (RFC 4253 section 11.4). */
void link_answer_unimplemented(hussh_link *link);
/* Sends what was kept, once no key exchange runs. */
void link_send_pending(hussh_link *link);

#endif
