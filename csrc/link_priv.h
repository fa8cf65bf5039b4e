/* link_priv.h - what the files of a link share: link.c, pump.c, message_hook.c, channel_recv.c,
 * channel.c.  Their calls to one another are below, file by file. */
#ifndef HUSSH_LINK_PRIV_H
#define HUSSH_LINK_PRIV_H

#include "libssh2_priv.h"
#include "link.h"
#include "queue.h"

#define MAX_PACKET 32768u       /* most channel data that a peer may put in one packet */
#define MESSAGE_MAX ((256u << 10) - 32) /* padded, what OpenSSH takes (patch 0050) */
#define TX_HIGH ((size_t)1 << 20)  /* a tx queue above this takes no more bulk data ... */
#define TX_LOW ((size_t)256 << 10) /* ... until it is below this */
#define TX_FLOOD ((size_t)4 << 20) /* and above this its link reads nothing: reply floods */

enum source { SOURCE_MEMORY, SOURCE_FDS, SOURCE_CHANNEL };

struct hussh_link {
  LIBSSH2_SESSION *session;
  hussh_link *root, *parent;    /* parent: the link whose channel carries us, or NULL */
  hussh_channel *outer;         /* that channel, or NULL */
  enum source source;
  int read_fd, write_fd, tcp, write_failed;

  hussh_queue rx, tx;           /* the stream: received, to be sent */
  hussh_queue pending;          /* messages that wait for the end of a key exchange */
  size_t pending_answers;       /* bytes of them that the peer asked for */
  hussh_queue messages;         /* kept authentication messages, length first */
  int message_count;

  size_t blocks;                /* of memory that libssh2 holds */
  int alloc_failed;             /* it did not get some */
  int refs;                     /* the owner's, and one for each link over a channel of ours */
  int phase, dead, code;
  int recv_enabled, recv_would_block; /* the gate: may the recv callback give; did it say EAGAIN */
  int rx_eof, ended;
  int handshake_done, authenticated, kex_packets, kex_bytes, rekeys, was_rekeying;
  int auth_asked, auth_more;    /* requests without a final answer; the last was told to go on */
  uint32_t keyed_local, keyed_remote; /* sequence numbers when the keys were new ... */
  uint64_t keyed_sent, keyed_received; /* ... and bytes */
  int globals_asked, global_replies;
  uint64_t received, sent, packets;
  char text[256];
  unsigned char preamble[256];
  size_t preamble_len;
  hussh_queue peer_kexinit;

  /* the nudge (see nudge() in pump.c) */
  size_t got;                   /* bytes taken in this pump */
  int queued_since, nudges, unnudged;
  uint32_t waiting;             /* opens and requests without an answer, and running commands */
  hussh_link *next_touched;
  int touched;

  hussh_channel **channels;     /* by local id; NULL: free */
  uint32_t channel_slots, channel_free_hint, channel_live;
  int blocked;                  /* a channel waits for our tx queue or a key exchange */

  uint64_t token;
  hussh_link *next_ready;       /* links with input to process, in the root's list */
  int ready;

  /* of a root only */
  hussh_link *ready_head, *ready_tail;
  hussh_channel *dirty_head, *dirty_tail;
  hussh_link *touched_head;
  struct event *events;
  size_t event_count, event_size, objects;
  uint64_t next_token;
  uint64_t moved, moved_before; /* bytes into and out of queues, now and at the last turn ... */
  size_t idle_turns;            /* ... and turns without any, in this call of the pump */

  int signalled;                /* of every link: its token is in the root's events */
};

/* One thing that something happened to; the flag keeps it single. */
struct event {
  uint64_t token;
  int *signalled;
};

struct hussh_channel {
  hussh_link *link, *child;     /* child: the link that we carry, or NULL */
  uint32_t local_id, remote_id;
  uint32_t send_window, send_packet;           /* what the peer lets us send */
  uint32_t recv_window, recv_window_max, consumed; /* what we let the peer send */
  hussh_queue rx, rx_err, tx;   /* received: stdout, stderr; to be sent: the peer's stdin */
  size_t longest_message;       /* not 0: rx makes an event when a message is complete ... */
  size_t message_rest;          /* ... or so much of one that was read in part, if not 0 */
  int state, reason, eof, closed, abrupt, eof_wanted, eof_sent, close_sent, abandoned, want_room;
  int requests, replies, failures, running;
  int exit_known, core;
  uint32_t exit_status;
  char text[256];
  uint64_t token;
  int signalled, dirty;
  hussh_channel *next_dirty;
};

/* link.c */
void link_count(ptrdiff_t objects); /* for hussh_live */
void link_changed(hussh_link *link);
void link_fail_text(hussh_link *link, int dead, int code, const char *text);
void link_fail(hussh_link *link, int dead, int code, const char *text, size_t text_len);
void link_event(hussh_link *link, uint64_t token, int *signalled);
/* A new token, and room for its event; 0: no memory. */
uint64_t link_token(hussh_link *link);
void link_forget_event(hussh_link *link, uint64_t token);

/* pump.c */
void link_ready(hussh_link *link);
void channel_dirty(hussh_channel *channel);

/* message_hook.c */
int link_message_hook(LIBSSH2_SESSION *session, const unsigned char *message, size_t len);
void link_send_pending(hussh_link *link);
/* Sends a message, or keeps it until a running key exchange ends. */
int link_emit(hussh_link *link, const void *head, size_t head_len, const void *body,
              size_t body_len);
/* The same for what the peer asked for, of which only so much is kept. */
void link_answer(hussh_link *link, const void *message, size_t len);
int link_in_kex(const hussh_link *link);

/* Numbers of messages (RFC 4250 section 4.1.2).  They are not called SSH_MSG_* because
 * libssh2_priv.h has macros of those names. */
enum {
  MSG_DISCONNECT = 1, MSG_IGNORE, MSG_UNIMPLEMENTED, MSG_DEBUG, MSG_SERVICE_REQUEST,
  MSG_SERVICE_ACCEPT, MSG_EXT_INFO,
  MSG_KEXINIT = 20, MSG_NEWKEYS,
  MSG_USERAUTH_REQUEST = 50, MSG_USERAUTH_FAILURE, MSG_USERAUTH_SUCCESS, MSG_USERAUTH_BANNER,
  MSG_USERAUTH_60 = 60, /* go on: what it says depends on the method */
  MSG_GLOBAL_REQUEST = 80, MSG_REQUEST_SUCCESS, MSG_REQUEST_FAILURE,
  MSG_CHANNEL_OPEN = 90, MSG_CHANNEL_OPEN_CONFIRMATION, MSG_CHANNEL_OPEN_FAILURE,
  MSG_CHANNEL_WINDOW_ADJUST, MSG_CHANNEL_DATA, MSG_CHANNEL_EXTENDED_DATA, MSG_CHANNEL_EOF,
  MSG_CHANNEL_CLOSE, MSG_CHANNEL_REQUEST, MSG_CHANNEL_SUCCESS, MSG_CHANNEL_FAILURE,
  /* where the kinds begin */
  MSG_USERAUTH_FIRST = 50, MSG_CONNECTION_FIRST = 80
};

/* channel_recv.c */
void link_global_answered(hussh_link *link); /* yes, no, or that the peer does not know it */
void channels_message(hussh_link *link, const unsigned char *message, size_t len);

/* channel.c */
hussh_channel *channel_find(hussh_link *link, uint32_t id);
void channel_changed(hussh_channel *channel);
int channel_worth_reading(const hussh_channel *channel); /* its owner shall hear of stdout */
void channel_emit(hussh_channel *channel, unsigned char type); /* a message of its number only */
void channel_stop_waiting(hussh_channel *channel);
void channel_child_eof(hussh_channel *channel);
/* Frees a channel that its owner let go once neither side can speak of it; 1: it is gone. */
int channel_gone(hussh_channel *channel);
void channels_link_died(hussh_link *link);
/* Lets channels that wait for the link go on, once it has room and no key exchange runs. */
void channels_unblock(hussh_link *link);
void channels_free(hussh_link *link);
void channel_flush(hussh_channel *channel);
void channel_credit(hussh_channel *channel, size_t consumed);
void channel_detach(hussh_channel *channel);

static inline uint32_t get_u32(const unsigned char *p) {
  return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static inline unsigned char *put_u32(unsigned char *p, uint32_t value) {
  p[0] = (unsigned char)(value >> 24);
  p[1] = (unsigned char)(value >> 16);
  p[2] = (unsigned char)(value >> 8);
  p[3] = (unsigned char)value;
  return p + 4;
}

#endif
