/* link.h - the contract between the C shim and the Python code above it.
 *
 * A link is one SSH session over any byte stream: an rx queue, a tx queue and a
 * source.  libssh2 does the transport (RFC 4253: banner, key exchange, ciphers,
 * rekeying) through two callbacks that touch the queues only.  The shim takes the
 * messages from number 50 on.  It keeps 50 to 79 for the authentication, which Python
 * does, and it does the connection protocol (RFC 4254, 80 to 127) itself.
 *
 * Links over channels of other links make a tree.  The caller has one lock for each
 * tree and holds it during every call.  No call waits, and none knows of Python.
 *
 * Return codes: 0 or a count on success, else one of HUSSH_E_*.
 */
#ifndef HUSSH_LINK_H
#define HUSSH_LINK_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define HUSSH_E_MEMORY (-1) /* no memory; the link is dead */
#define HUSSH_E_DEAD (-2)   /* the link failed or was killed: see hussh_link_get_info */
#define HUSSH_E_STATE (-3)  /* the call does not fit the state; it did nothing */
#define HUSSH_E_AGAIN (-4)  /* nothing there now */

/* What a request may carry: with its head and padding a packet of 256 KiB, the most
 * that OpenSSH takes.  No server must take more than 32 KiB (RFC 4253 section 6.1). */
#define HUSSH_REQUEST_MAX ((256 << 10) - 128)

/* Phases of a link, in the order in which they are passed. */
enum { HUSSH_BANNER, HUSSH_KEX, HUSSH_HOSTKEY, HUSSH_AUTH, HUSSH_OPEN };
/* Why a link is dead.  STUCK: the pump went round without moving a byte, which is a
 * fault in the shim. */
enum { HUSSH_DEAD_NOT, HUSSH_DEAD_EOF, HUSSH_DEAD_OS, HUSSH_DEAD_PEER, HUSSH_DEAD_PROTOCOL,
       HUSSH_DEAD_MEMORY, HUSSH_DEAD_KILLED, HUSSH_DEAD_STUCK };
/* States of a channel.  UNHEARD: the server did not look at its OPEN, which came before the
 * login was done: open another one. */
enum { HUSSH_CH_OPENING, HUSSH_CH_OPEN, HUSSH_CH_REFUSED, HUSSH_CH_DEAD, HUSSH_CH_UNHEARD };
/* What hussh_pump returns, as bits.  FULL: it reads no more until more was written, or a
 * computation was finished.  WORK: key exchanges wait for computations, see hussh_work_take. */
enum { HUSSH_WANT_WRITE = 1, HUSSH_MORE = 2, HUSSH_EVENTS = 4, HUSSH_FULL = 8, HUSSH_WORK = 16 };
/* Kinds of computations.  KEM_KEY: a new key pair of ML-KEM-768; the result is its public key.
 * KEM_SECRET: the secret in a ciphertext for that key.  POWER: what hussh_work_run computes. */
enum { HUSSH_WORK_KEM_KEY = 1, HUSSH_WORK_KEM_SECRET, HUSSH_WORK_POWER };

typedef struct hussh_link hussh_link;
typedef struct hussh_channel hussh_channel;
typedef struct hussh_work hussh_work;
typedef struct hussh_endpoint hussh_endpoint;

typedef struct {
  int phase, dead, code;    /* code: errno, libssh2's or the disconnect reason, after dead */
  int messages, replies;    /* authentication messages kept; global replies so far */
  int rekeying, rekeys;     /* a key exchange runs now; how many have ended */
  size_t queued;            /* bytes not yet handed to the source */
  uint64_t received, sent;  /* bytes taken from and given to the source */
  uint64_t packets;         /* received */
  int unasked;              /* channels that the peer opened towards us, refused as unasked */
  char unasked_kind[48];    /* the type of the last one */
  char text[256];           /* what went wrong, NUL-terminated, the peer's words included */
} hussh_link_info;

typedef struct {
  int state, reason;        /* reason: of the refusal, RFC 4254 section 5.1 */
  int eof, closed;          /* received from the peer */
  int abrupt;               /* closed without an EOF before it */
  int replies, failures;    /* answers to requests: how many; bit n set: answer n < 31 was no */
  int exit_known, core;     /* 0 none, 1 exit-status, 2 exit-signal */
  uint32_t exit_status;
  size_t rx, rx_err;        /* bytes to read: of stdout, of stderr */
  size_t queued;            /* bytes written that are not sent yet */
  char text[256];           /* of the refusal, or the signal's name */
} hussh_channel_info;

typedef struct {
  int over, error;          /* nothing moves any more; why: an errno, or 0 for an orderly end */
  uint64_t received, sent;  /* bytes that came from the peer, and that went to it */
} hussh_endpoint_info;

/* Making and ending.  A result of NULL means that there was no memory.  A link borrows
 * its source: the caller closes the fds, and the outer channel must outlive the link. */
hussh_link *hussh_link_over_fds(int read_fd, int write_fd);
/* Ends both directions of a socket that stays open; of anything else nothing. */
void hussh_fd_shutdown(int fd);
hussh_link *hussh_link_over_channel(hussh_channel *outer);
hussh_link *hussh_link_over_memory(void);
/* Frees the link and its channels without any I/O; links over its channels
 * are dead from then on, and may be freed before or after.  NULL does nothing. */
void hussh_link_free(hussh_link *link);
/* For leak tests: links and channels that exist, and blocks that libssh2 leaked. */
size_t hussh_live(void);
/* From now on the link and all links over it neither send nor receive. */
void hussh_link_kill(hussh_link *link);
/* The same after an error of the operating system: code is its errno, text its message. */
void hussh_link_fail(hussh_link *link, int code, const char *text);
/* Queues SSH_MSG_DISCONNECT; text at most 200 bytes. */
int hussh_link_disconnect(hussh_link *link, int reason, const char *text);

/* Before the first pump: kind is a LIBSSH2_METHOD_*, names comma-separated. */
int hussh_link_prefer(hussh_link *link, int kind, const char *names);
int hussh_link_compress(hussh_link *link);
/* Comma-separated names that libssh2 knows for kind; returns the length. */
int hussh_link_supported(hussh_link *link, int kind, char *names, size_t size);

/* The pump: moves everything that can move in the tree of root, without
 * waiting, until about budget bytes of its source were read. */
int hussh_pump(hussh_link *root, size_t budget);
/* Only the way down: gives what is queued to the source; returns bits as hussh_pump. */
int hussh_flush(hussh_link *root);
/* Takes up to max tokens of links and channels that something happened to. */
size_t hussh_events(hussh_link *root, uint64_t *tokens, size_t max);
/* Makes an event for the link: something that waits for it should look again. */
void hussh_link_notify(hussh_link *link);
uint64_t hussh_link_token(const hussh_link *link);
uint64_t hussh_channel_token(const hussh_channel *channel);

/* Computations that key exchanges of the tree wait for (kex_work.c).  The taker of one must
 * finish it, also after its link or the tree was freed.  NULL: there is none to take. */
hussh_work *hussh_work_take(hussh_link *root);
int hussh_work_kind(const hussh_work *work);
uint64_t hussh_work_owner(const hussh_work *work); /* the token of its link */
const void *hussh_work_input(const hussh_work *work, size_t *len);
void hussh_work_run(hussh_work *work); /* of kind POWER; takes long, and needs no lock */
/* With the lock held, and before a pump.  Takes the result and wipes it; len 0: it failed. */
void hussh_work_finish(hussh_work *work, void *result, size_t len);
/* Whether C computes ML-KEM itself, so that there is no work of these two kinds. */
int hussh_kem_in_c(void);

/* Memory links: feed takes bytes from the peer (len 0: end of stream), drain gives ours. */
int hussh_feed(hussh_link *link, const void *bytes, size_t len);
size_t hussh_drain(hussh_link *link, void *bytes, size_t size);

/* What a link knows.  Pointers belong to the link and live until it is freed
 * or its next key exchange. */
void hussh_link_get_info(const hussh_link *link, hussh_link_info *info);
const void *hussh_link_hostkey(const hussh_link *link, size_t *len);
const void *hussh_link_session_id(const hussh_link *link, size_t *len);
/* The host key's signature of the session id (RFC 4253 section 8), checked by then. */
const void *hussh_link_hostkey_signature(const hussh_link *link, size_t *len);
const void *hussh_link_peer_kexinit(const hussh_link *link, size_t *len); /* until kex ends */
const char *hussh_link_method(const hussh_link *link, int kind);
const char *hussh_link_banner(const hussh_link *link);       /* NULL: not seen */
const void *hussh_link_preamble(const hussh_link *link, size_t *len); /* first bytes received */
const char *hussh_link_sig_algs(const hussh_link *link);     /* RFC 8308; NULL: not sent */

/* Sends one whole message: 50-79, or a global request. */
int hussh_link_send(hussh_link *link, const void *message, size_t len);
/* Returns the length of the oldest kept authentication message; takes it if it fits. */
ssize_t hussh_link_message(hussh_link *link, void *message, size_t size);
int hussh_link_rekey(hussh_link *link);
/* Asks for new keys after so many bytes in one direction, at the latest; 0: the cipher says. */
void hussh_link_rekey_after(hussh_link *link, uint64_t bytes);
/* After how many it does. */
uint64_t hussh_link_rekey_bytes(const hussh_link *link);

/* Channels.  One may be opened behind a login request that has no answer yet; if that is
 * refused, or the server wants more, it is UNHEARD.  So is a session for which an answer to a
 * later global request comes first.  The caller owns a channel until hussh_channel_free, which closes it; the
 * struct goes when the peer has closed it, too. */
hussh_channel *hussh_channel_open(hussh_link *link, const void *type, size_t type_len,
                                  const void *extra, size_t extra_len, uint32_t window);
void hussh_channel_get_info(const hussh_channel *channel, hussh_channel_info *info);
/* name at most 64 bytes, extra at most HUSSH_REQUEST_MAX, else HUSSH_E_STATE. */
int hussh_channel_request(hussh_channel *channel, const void *name, size_t name_len,
                          int want_reply, const void *extra, size_t extra_len);
/* Asks for a signal (RFC 4254 section 6.9); name as there, at most 63 bytes, no NUL.
 * repeat: while the peer says that it reached nobody, ask again, also after
 * hussh_channel_free, which then closes the channel later.  For sshd, which answers. */
int hussh_channel_signal(hussh_channel *channel, const void *name, size_t len, int repeat);
/* Sessions that were freed and that the peer has not closed: their commands may still run. */
uint32_t hussh_link_lingering(const hussh_link *link);
ssize_t hussh_channel_read(hussh_channel *channel, int stream, void *bytes, size_t size);
/* From now on no event is made for what an owner that waits for the end need not see before:
 * answers without a refusal, an exit status, EOF, and data of less than `most` bytes in all. */
void hussh_channel_await_close(hussh_channel *channel, size_t most);
/* All that a command needs that reads nothing: asks for it (exec; command: as an SSH string),
 * keeps the order, awaits the close as hussh_channel_await_close, and ends its stdin. */
int hussh_channel_run(hussh_channel *channel, const void *command, size_t len, size_t most);
/* A session for later, as hussh_channel_open.  It makes no event until its owner takes it; that
 * returns 0 if it is open, else HUSSH_E_STATE (its info tells why) or HUSSH_E_DEAD. */
hussh_channel *hussh_channel_spare(hussh_link *link, uint32_t window);
int hussh_channel_take(hussh_channel *channel);
/* From now on the order is kept in which stdout and stderr arrive. */
void hussh_channel_keep_order(hussh_channel *channel);
/* What arrived since the last call: pairs of uint32_t, so many bytes of stdout and then so many of
 * stderr.  Returns the length of all pairs in bytes, and forgets them if they fit. */
size_t hussh_channel_order(hussh_channel *channel, void *pairs, size_t size);
/* For stdout that consists of messages behind a 32-bit length, as those of SFTP: until
 * the next read, data on stdout makes an event only when a message is complete, or when
 * its length is beyond `longest` (at most half of the window), which the caller must
 * judge.  rest: bytes that are missing of a message that was read in part, or 0. */
void hussh_channel_await_message(hussh_channel *channel, size_t rest, size_t longest);
ssize_t hussh_channel_write(hussh_channel *channel, const void *bytes, size_t len);
/* Lets the peer of an open channel send so much ahead of what is read, if that is more
 * than until now. */
void hussh_channel_widen(hussh_channel *channel, uint32_t window);
int hussh_channel_eof(hussh_channel *channel);   /* sent after what is queued */
int hussh_channel_close(hussh_channel *channel); /* what is queued is dropped */
void hussh_channel_free(hussh_channel *channel);
/* The same, but what is queued is sent first, then EOF, as far as the peer takes it. */
void hussh_channel_finish(hussh_channel *channel);

/* Channels that the peer opens.  Until `on`, each is refused; then their messages (RFC 4254
 * section 5.1) are kept for the owner, who answers each: with hussh_channel_accept, or with
 * a failure message.  Every new one makes an event for the link. */
void hussh_link_take_offers(hussh_link *link, int on);
/* The oldest of these messages: its length, copied if it fits, and then forgotten. */
ssize_t hussh_link_offer(hussh_link *link, void *message, size_t size);
/* Confirms one: its number at the peer, the peer's window and packet size, and our window. */
hussh_channel *hussh_channel_accept(hussh_link *link, uint32_t id, uint32_t peer_window,
                                    uint32_t peer_packet, uint32_t window);
/* Keeps the answer to the next global request that wants one.  HUSSH_E_STATE: the answer to
 * another one is still to come. */
int hussh_link_keep_reply(hussh_link *link);
/* That answer: HUSSH_E_AGAIN until it is there, 0 for no, 1 for yes; port: the number that
 * came with it, or 0. */
int hussh_link_kept_reply(const hussh_link *link, uint32_t *port);

/* Endpoints (endpoint.c): non-blocking sockets of the caller's, connected or listening, that
 * the pump serves.  The caller polls hussh_endpoints_fd (-1: there is none yet) for input
 * along with the root's source, and pumps when it is ready.  An endpoint borrows its
 * descriptor.  It makes an event each time something new can be read or accepted there
 * (edge-triggered).  NULL: errno says why. */
hussh_endpoint *hussh_endpoint_new(hussh_link *root, int fd);
int hussh_endpoints_fd(const hussh_link *root);
uint64_t hussh_endpoint_token(const hussh_endpoint *endpoint);
/* From now on bytes move between the descriptor and the channel, whose owner leaves it
 * alone; the next event says that it is over.  Half-closes are carried both ways. */
int hussh_endpoint_join(hussh_endpoint *endpoint, hussh_channel *channel);
void hussh_endpoint_get_info(const hussh_endpoint *endpoint, hussh_endpoint_info *info);
/* Closes the channel that it is joined to; the descriptor may be closed afterwards.
 * NULL does nothing. */
void hussh_endpoint_free(hussh_endpoint *endpoint);
/* Ends all of a tree, and the descriptor of hussh_endpoints_fd. */
void hussh_endpoints_close(hussh_link *root);

#endif
