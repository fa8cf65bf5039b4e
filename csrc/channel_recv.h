/* channel_recv.h - channel_recv.c for message_hook.c, which hands it messages. */
#ifndef HUSSH_CHANNEL_RECV_H
#define HUSSH_CHANNEL_RECV_H

#include "tree.h"

/* Takes one message of the connection protocol, 80 to 127; a bad one fails the link. */
void channels_message(hussh_link *link, const unsigned char *message, size_t len);
/* Counts the peer's answer to our oldest global request: 1 for yes, 0 for no or unknown to it;
 * port: the number that came with it, or 0. */
void link_global_answered(hussh_link *link, int answer, uint32_t port);

#endif
