/* tree.h - the structs of links and channels, and tree.c for all files of the shim.
 *
 * The files call downward only, and each includes the headers of what it calls:
 *
 *   pump.c          moves bytes through a tree
 *   link.c          makes and ends links, libssh2's callbacks
 *   message_hook.c  takes what libssh2 has decrypted: transport, authentication
 *   channel_recv.c  takes the messages of the connection protocol
 *   endpoint.c      moves bytes between local sockets and channels
 *   channel_signal.c  signals to commands, repeated until they are heard
 *   channel_command.c  commands whose owner waits for the end only
 *   channel.c       what leaves by a channel, and the calls of its owner
 *   send.c          sends whole messages, around key exchanges
 *   kex_work.c      has computed what key exchanges wait for
 *   tree.c          tables, lists, events, failing
 *
 * link.h is what Python sees of all of them.  tests/unit/test_c_layers.py checks the order.
 */
#ifndef HUSSH_TREE_H
#define HUSSH_TREE_H

#include "libssh2_priv.h"
#include "link.h"
#include "queue.h"

#include <openssl/evp.h>

#define TX_HIGH ((size_t)1 << 20)  /* a tx queue above this takes no more bulk data ... */
#define TX_LOW ((size_t)256 << 10) /* ... until it is below this */
#define RX_FLOOD ((size_t)4 << 20) /* no more is read while a key exchange is computed */
#define TX_FLOOD ((size_t)4 << 20) /* and above this its link reads nothing: reply floods */

enum source { SOURCE_MEMORY, SOURCE_FDS, SOURCE_CHANNEL };

struct hussh_link {
  LIBSSH2_SESSION *session;
  hussh_link *root, *parent;    /* parent: the link whose channel carries us, or NULL */
  hussh_channel *outer;         /* that channel, or NULL */
  enum source source;
  int read_fd, write_fd, tcp, write_failed;

  hussh_queue rx, tx;           /* bytes of the stream: received, to be sent */
  hussh_queue pending;          /* messages that wait for the end of a key exchange */
  size_t pending_answers;       /* bytes of those messages that the peer asked for */
  hussh_queue messages;         /* kept authentication messages, length first */
  int message_count;

  size_t blocks;                /* blocks of memory that libssh2 holds */
  int alloc_failed;             /* libssh2 asked for memory and did not get it */
  int refs;                     /* one for the owner, one for each link over our channels */
  int phase, dead, code;
  int recv_enabled, recv_would_block; /* the gate: may the recv callback give; did it say EAGAIN */
  int rx_eof, ended;
  int handshake_done, authenticated, kex_packets, kex_bytes, rekeys, was_rekeying;
  int auth_asked, auth_more;    /* requests without a final answer; one was answered by 60 */
  uint64_t auth_queries;        /* bit n: of these, the n-th from the oldest on is a query */
  const char *kex_name, *hostkey_name; /* of the last key exchange that has ended, or NULL */
  uint32_t keyed_local, keyed_remote; /* sequence numbers when the keys were new ... */
  uint64_t keyed_sent, keyed_received; /* ... and bytes */
  uint64_t rekey_after;         /* see hussh_link_rekey_after */
  hussh_work *work;             /* what its key exchange has computed, or NULL (kex_work.c) */
  EVP_PKEY *kem_key;            /* the ML-KEM key of a running key exchange, or NULL */
  int globals_asked, global_replies;
  uint64_t received, sent, packets;
  char text[256];
  unsigned char preamble[256];
  size_t preamble_len;
  int unasked;                  /* channels that we refused without asking anybody */
  char unasked_kind[48];
  hussh_queue peer_kexinit;
  hussh_queue hostkey_signature; /* of the first key exchange, by the host key */

  /* the nudge (see nudge() in pump.c) */
  size_t got;                   /* bytes that the session took during this pump */
  int queued_since, nudges, unnudged;
  uint32_t waiting;             /* opens and requests without an answer, running commands */
  hussh_link *next_touched;
  int touched;

  hussh_channel **channels;     /* by local id; NULL: free */
  uint32_t channel_slots, channel_free_hint, channel_live;
  int blocked;                  /* a channel waits for our tx queue or a key exchange */
  uint32_t lingering;           /* see hussh_link_lingering */
  int signals_refused;          /* each time: see channel_signal.c */
  uint32_t unblock_from;        /* the number behind that of the channel that sent data last */

  uint64_t token;
  hussh_link *next_ready;       /* links with input to process, in the root's list */
  int ready;

  /* used in a root only */
  hussh_link *ready_head, *ready_tail;
  hussh_channel *dirty_head, *dirty_tail;
  hussh_link *touched_head;
  hussh_work *works;            /* computations that nobody has taken */
  struct event *events;
  size_t event_count, event_size, objects;
  uint64_t next_token;
  uint64_t moved, moved_before; /* bytes into and out of queues, now and at the last turn ... */
  size_t idle_turns;            /* ... and turns without any, in this call of the pump */

  struct endpoints *endpoints;  /* local sockets that the pump serves, or NULL */

  int signalled;                /* in every link: its token is in the root's events */

  /* what the peer opens (see hussh_link_take_offers), and the answer that is kept */
  hussh_queue offers;           /* messages, length first */
  int takes_offers, offer_count;
  int kept_reply, kept_answer;  /* the number of the reply that is kept, or 0; HUSSH_E_AGAIN, 0, 1 */
  uint32_t kept_port;
};

/* A link or channel that something happened to.  The flag, which is in that object, says
 * that its event is there, so that there is one at most. */
struct event {
  uint64_t token;
  int *signalled;
};

struct hussh_channel {
  hussh_link *link, *child;     /* child: the link that we carry, or NULL */
  hussh_endpoint *endpoint;     /* the local socket that we are joined to, or NULL */
  uint32_t local_id, remote_id;
  uint32_t open_seqno;          /* the sequence number of its OPEN, if has_open_seqno */
  uint32_t send_window, send_packet; /* bytes that we may send: in all, in one packet */
  uint32_t recv_window, recv_window_max, consumed; /* bytes that the peer may send; read since */
  hussh_queue rx, rx_err, tx;   /* received: stdout, stderr; to be sent: stdin */
  hussh_queue order;            /* pairs of uint32_t, see hussh_channel_order */
  int keeps_order;
  int spare;                    /* nobody waits for it: see hussh_channel_spare */
  size_t quiet;                 /* see hussh_channel_await_close; 0: it was not called */
  size_t longest_message;       /* see hussh_channel_await_message; 0: it was not called */
  size_t message_rest;          /* its argument `rest` */
  int state, reason, eof, closed, abrupt, eof_wanted, eof_sent, close_sent, abandoned, want_room;
  int finishing;                /* CLOSE follows our EOF */
  int requests, replies, failures, running, has_open_seqno;
  int is_session, lingers;      /* it lingers: see hussh_link_lingering */
  int early, overtaken;         /* opened before the login was done; its answer may be late */
  int heard;                    /* data came from the command, so that it has begun */
  int signal_tries, signal_reply; /* of the last signal: repeats left; the number of its answer */
  char signal[64];              /* its name */
  int exit_known, core;
  uint32_t exit_status;
  char text[256];
  uint64_t token;
  int signalled, dirty;
  hussh_channel *next_dirty;
};

/* A local socket, see endpoint.c. */
struct hussh_endpoint {
  hussh_link *root;             /* NULL: it has been freed */
  hussh_channel *channel;       /* NULL: only watched, or over */
  hussh_endpoint *next, *before; /* in the list of all of the tree's */
  hussh_endpoint *next_ready;
  int fd, readable, writable, hung_up;
  int ready, running;           /* it is on the ready list; it moves just now */
  int joined, read_eof, write_shut, over, error;
  uint64_t received, sent;
  uint64_t token;
  int signalled;
};

/* The endpoints of a tree, and those that may be able to move. */
struct endpoints {
  int epoll;
  hussh_endpoint *all, *ready_head, *ready_tail;
  size_t ready_count;
  unsigned char *buffer;
};

/* Adds so many links, channels or leaked blocks to what hussh_live returns. */
void link_count(ptrdiff_t objects);

/* A new token, and room for its event; 0: no memory. */
uint64_t link_token(hussh_link *link);
/* The token's object is freed: drops its event, and the room for one. */
void link_forget_event(hussh_link *link, uint64_t token);
/* Makes an event of something that happened to the link or the channel. */
void link_changed(hussh_link *link);
void channel_changed(hussh_channel *channel);
void endpoint_changed(hussh_endpoint *endpoint);

/* Puts the link, whose rx queue has input, on the list of those to process. */
void link_ready(hussh_link *link);
void link_unlist(hussh_link *link);
/* Puts the channel, which may have something to send, on the list of those to flush. */
void channel_dirty(hussh_channel *channel);

/* Puts the endpoint, which may be able to move, on the list of those to serve. */
void endpoint_ready(hussh_endpoint *endpoint);
void endpoint_unlist(hussh_endpoint *endpoint);
/* Takes it from its channel: nothing moves any more, for this errno, or 0. */
void endpoint_over(hussh_endpoint *endpoint, int error);

/* A channel with the next free number, counted as waiting; NULL: no memory, or too many. */
hussh_channel *channel_new(hussh_link *link, uint32_t window);
hussh_channel *channel_find(hussh_link *link, uint32_t id);
/* No answer and no end of a command is waited for on this channel any more. */
void channel_stop_waiting(hussh_channel *channel);
/* A link over this channel gets the end of its stream. */
void channel_child_eof(hussh_channel *channel);
/* Frees a channel that its owner let go once neither side can speak of it; 1: it is gone. */
int channel_gone(hussh_channel *channel);
void channel_destroy(hussh_channel *channel);
/* Frees all channels of a link; links over them are dead from then on. */
void channels_free(hussh_link *link);

/* Copies what fits of a text from the peer, with blanks for control characters, and a NUL. */
void copy_text(char *to, size_t size, const void *text, size_t len);
/* Ends a link and its channels, unless it is dead already.  dead is a HUSSH_DEAD_*. */
void link_fail(hussh_link *link, int dead, int code, const char *text, size_t text_len);
void link_fail_text(hussh_link *link, int dead, int code, const char *text);
void link_out_of_memory(hussh_link *link);

#endif
