/* channel_recv.h - channel_recv.c for message_hook.c, which hands it messages. */
#ifndef HUSSH_CHANNEL_RECV_H
#define HUSSH_CHANNEL_RECV_H

#include "tree.h"

/* Takes one message of the connection protocol, 80 to 127; a bad one fails the link. */
void channels_message(hussh_link *link, const unsigned char *message, size_t len);
/* The login request was not granted: the server does not look at the opens behind it. */
void channels_unheard(hussh_link *link);
/* The peer does not know our message of this sequence number; 1: that was an open. */
int channels_unimplemented(hussh_link *link, uint32_t seqno);
/* Counts the peer's answer to our oldest global request: 1 for yes, 0 for no or unknown to it;
 * port: the number that came with it, or 0. */
void link_global_answered(hussh_link *link, int answer, uint32_t port);

#endif
