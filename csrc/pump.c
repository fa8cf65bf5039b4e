/* pump.c - moves bytes through a tree of links: down, up, and the nudge.
 *
 * Theory of operation
 *
 * The send callback that libssh2 calls (link.c) always takes everything into the tx
 * queue.  The recv callback serves the rx queue and says -EAGAIN when that is empty.  So
 * libssh2 never sees a partial send, and it never touches a file descriptor: it gets a
 * number that no process can have.  The pump alone feeds libssh2, in these steps:
 *
 *   1. down: queued channel data becomes packets of the link below, link by
 *      link, until everything lies in the root's tx queue and is written;
 *   2. up: the root's source is read; each link with new input processes its
 *      packets.  Our hook in libssh2 hands us every message from number 50 on,
 *      so channel data lands in its channel's queue at once, or, where the
 *      channel carries another link, in that link's rx queue, which then is
 *      processed in turn.  The caller hears of the last level only;
 *   3. nudge, then down again.  All this repeats until the source has no more or the
 *      budget (bytes of the root) is used, so that one call stays short.
 *
 * The gate: outside of the processing step the recv callback says -EAGAIN even
 * when there is input.  During a key exchange libssh2's send function reads,
 * too, and what it would read there belongs to the pump.
 *
 * EAGAIN from libssh2 does not mean that the rx queue is empty, because libssh2 also says
 * so after a short read in mid-packet.  Hence `recv_would_block`: processing goes on until
 * the callback itself had nothing to give.
 *
 * Why it ends: a channel that cannot send waits for one of three things, and each has
 * one place that ends the wait.  The peer's window: its WINDOW_ADJUST (channel_recv.c).
 * The link's backlog: bytes that leave the link's tx queue.  A key exchange: its end,
 * in process().  For the last two the link is `blocked`, and channels_unblock() does
 * nothing until both waits are over.  So a link that is blocked again has sent bytes
 * meanwhile.  An event that one link waits for never makes another link look again.
 * goes_on() is the belt: should a loop turn without a byte moving after all, it fails the
 * tree, where the process would otherwise run a busy loop.
 */
#include "channel.h"
#include "endpoint.h"
#include "kex_work.h"
#include "messages.h"
#include "send.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "transport.h"

#define NO_FD 0x7ffffff0 /* libssh2 refuses -1 */
#define READ_CHUNK ((size_t)256 << 10)
#define PREAMBLE_MAX ((size_t)32 << 10) /* bytes before the banner's end */
#define NUDGES_MAX 6
#define NUDGE_BULK ((size_t)16 << 10)
/* New keys are needed before this many packets went in one direction: the nonce of
 * chacha20-poly1305 is the 32-bit sequence number (RFC 4344 section 3.1). */
#define REKEY_PACKETS 0x80000000u
/* And before this many bytes, as OpenSSH does: 2^(L/4) blocks of L bits, which are 64 GiB with
 * AES (section 3.2); with blocks of 64 bits (3DES, and what ChaCha20-Poly1305 calls its block)
 * that bound is too small to be of use, and 1 GiB is the usual one.  tinyssh loses what follows
 * a key exchange that we ask for, so it is asked late: its only cipher needs that for the packets. */
#define REKEY_BYTES ((uint64_t)64 << 30)
#define REKEY_BYTES_SMALL_BLOCKS ((uint64_t)1 << 30)
/* For the belt, see goes_on(): turns without a byte, for each link and channel. */
#ifndef IDLE_TURNS
#define IDLE_TURNS 16
#endif
#define IDLE_STEPS 100 /* the same for steps of libssh2 in one link */

/* ---- the belt ------------------------------------------------------------ */

static void stuck(hussh_link *link) {
  link_fail_text(link, HUSSH_DEAD_STUCK, 0, "nothing moved although there was something to do");
}

/* Called before each turn of a loop of the pump; 0: the last turns moved no byte, so the
 * loop must end.  A turn may change the state of a link or a channel without moving a
 * byte, but of each only a few times. */
static int goes_on(hussh_link *root) {
  if (root->moved != root->moved_before) {
    root->moved_before = root->moved;
    root->idle_turns = 0;
  } else if (root->idle_turns++ >= IDLE_TURNS * root->objects) {
    stuck(root);
    return 0;
  }
  return 1;
}

/* ---- processing ---------------------------------------------------------- */

static void transport_failed(hussh_link *link, int rc) {
  char *text = NULL;
  int len = 0, code = libssh2_session_last_error(link->session, &text, &len, 0);
  if (link->dead)
    return;
  if (link->ended) { /* rc says only what libssh2 was in the middle of */
    link_fail_text(link, HUSSH_DEAD_EOF, 0, "the connection was closed by the other side");
    return;
  }
  if (link->alloc_failed) {
    link_out_of_memory(link);
    return;
  }
  /* What is left of an EAGAIN is no error. */
  if (code != rc && (rc != -1 || !code || code == LIBSSH2_ERROR_EAGAIN)) {
    text = NULL;
    len = 0;
  }
  if (!text || len <= 0) {
    char plain[64];
    len = snprintf(plain, sizeof(plain), "broken or tampered packet (libssh2 error %d)", rc);
    link_fail(link, HUSSH_DEAD_PROTOCOL, rc, plain, (size_t)len);
    return;
  }
  link_fail(link, HUSSH_DEAD_PROTOCOL, code, text, (size_t)len);
}

static void set_phase(hussh_link *link, int phase) {
  if (phase > link->phase) {
    link->phase = phase;
    link_changed(link);
  }
}

/* Refuses what libssh2 does not: versions other than 2.0 (RFC 4253 sections 4.2 and 5.1). */
static void begin_kex(hussh_link *link) {
  const char *banner = libssh2_session_banner_get(link->session);
  if (link->phase >= HUSSH_KEX)
    return;
  if (banner && strncmp(banner, "SSH-2.0-", 8) && strncmp(banner, "SSH-1.99-", 9)) {
    char text[100];
    int len = snprintf(text, sizeof(text), "the server speaks %.50s, not SSH 2.0", banner);
    link_fail(link, HUSSH_DEAD_PROTOCOL, 0, text, (size_t)len);
    return;
  }
  link->unnudged = banner && !strncmp(banner, "SSH-2.0-tinyssh", 15);
  set_phase(link, HUSSH_KEX);
}

/* One step of libssh2: the next packet, or the next part of the handshake. */
static int step(hussh_link *link) {
  int rc;
  if (link->handshake_done) {
    rc = _libssh2_transport_read(link->session);
    return rc > 0 ? 0 : rc;
  }
  rc = libssh2_session_handshake(link->session, NO_FD);
  if (link->session->startup_state >= libssh2_NB_state_sent1)
    begin_kex(link);
  if (rc == 0 || link->session->startup_state >= libssh2_NB_state_sent3)
    set_phase(link, HUSSH_HOSTKEY);
  if (rc == 0) {
    link->handshake_done = 1;
    set_phase(link, HUSSH_AUTH);
  }
  return rc;
}

uint64_t hussh_link_rekey_bytes(const hussh_link *link) {
  const LIBSSH2_CRYPT_METHOD *cipher = link->session->local.crypt;
  int late = link->unnudged || (cipher && cipher->blocksize >= 16);
  uint64_t most = late ? REKEY_BYTES : REKEY_BYTES_SMALL_BLOCKS;
  return link->rekey_after && link->rekey_after < most ? link->rekey_after : most;
}

void hussh_link_rekey_after(hussh_link *link, uint64_t bytes) {
  link->rekey_after = bytes;
}

/* Not before the login: until then the first keys are new, and servers are touchy. */
static int keys_are_old(const hussh_link *link) {
  uint64_t most;
  if (!link->authenticated)
    return 0;
  most = hussh_link_rekey_bytes(link);
  return link->session->local.seqno - link->keyed_local > REKEY_PACKETS ||
         link->session->remote.seqno - link->keyed_remote > REKEY_PACKETS ||
         link->sent - link->keyed_sent > most || link->received - link->keyed_received > most;
}

/* Lets the session process its input, until the recv callback would block. */
static void process(hussh_link *link) {
  int idle = 0;
  if (link->dead)
    return;
  link->recv_enabled = 1;
  while (!link->dead && link->tx.len < TX_FLOOD) {
    int rc;
    uint64_t before = link->received;
    link->recv_would_block = 0;
    rc = step(link);
    /* A failed exchange keeps peer_kexinit: the error tells what the server offered. */
    if (!link_in_kex(link) && link->was_rekeying && (rc >= 0 || rc == LIBSSH2_ERROR_EAGAIN)) {
      link->was_rekeying = 0;
      link->kex_packets = link->kex_bytes = 0;
      link->rekeys++;
      link->kex_name = libssh2_session_methods(link->session, LIBSSH2_METHOD_KEX);
      link->hostkey_name = libssh2_session_methods(link->session, LIBSSH2_METHOD_HOSTKEY);
      link->keyed_local = link->session->local.seqno;
      link->keyed_remote = link->session->remote.seqno;
      link->keyed_sent = link->sent;
      link->keyed_received = link->received;
      queue_clear(&link->peer_kexinit);
    }
    if (link_in_kex(link))
      link->was_rekeying = 1;
    if (link->phase == HUSSH_BANNER && link->received > PREAMBLE_MAX)
      link_fail_text(link, HUSSH_DEAD_PROTOCOL, 0, "no SSH banner in the first 32 KiB");
    if (rc == LIBSSH2_ERROR_EAGAIN) {
      if (link->recv_would_block || work_is_missing(link))
        break;
      if (link->received == before && ++idle > IDLE_STEPS)
        stuck(link); /* neither read nor said EAGAIN: cannot happen */
    } else if (rc < 0) {
      transport_failed(link, rc);
    } else {
      idle = 0;
    }
  }
  link->recv_enabled = 0;
  if (link->authenticated && link->handshake_done)
    set_phase(link, HUSSH_OPEN);
  link_send_pending(link);
  if (!link_in_kex(link) && keys_are_old(link))
    hussh_link_rekey(link);
  if (link->tx.len >= TX_FLOOD)
    link->blocked = 1; /* channels_unblock() lets it read on */
  channels_unblock(link); /* a key exchange may have ended */
  if (!link->touched) {
    link->touched = 1;
    link->next_touched = link->root->touched_head;
    link->root->touched_head = link;
  }
}

/* The nudge, which saves latency.  A server behind a bastion answers in several small
 * writes.  Nagle's algorithm holds each back until the one before is acknowledged, and
 * the bastion delays that acknowledgement by 40 ms unless it has something to send.  So
 * where an answer is pending, and we got bytes but send none ourselves, the pump sends
 * a 5-byte SSH_MSG_IGNORE, whose packet makes the bastion send the ACK.
 * tinyssh gets none.  After an SSH_MSG_IGNORE it does not look at what else it has read
 * until more arrives, and both sides would wait for ever. */
static int expects(const hussh_link *link) {
  if (link->authenticated)
    return link->phase == HUSSH_OPEN &&
           (link->waiting || link->globals_asked > link->global_replies);
  /* During the login two answers come apart, because its first request travels with the
   * request for the service.  Before the keys are exchanged nothing may be sent. */
  return link->phase >= HUSSH_HOSTKEY && link->auth_asked;
}

static void nudge(hussh_link *root) {
  hussh_link *link = root->touched_head;
  static const unsigned char ignore[5] = {MSG_IGNORE, 0, 0, 0, 0};
  root->touched_head = NULL;
  while (link) { /* children first: they were touched after their parents */
    hussh_link *next = link->next_touched;
    link->touched = 0;
    if (link->outer && link->got && !link->queued_since && expects(link) && !link->unnudged &&
        link->got < NUDGE_BULK && link->nudges < NUDGES_MAX &&
        !link_in_kex(link) && !link->pending.len) {
      link->nudges++;
      link_emit(link, ignore, sizeof(ignore), NULL, 0);
    }
    if (link->parent && (link->queued_since || link->tx.len))
      link->parent->queued_since = 1;
    link->got = 0;
    link->queued_since = 0;
    link = next;
  }
}

int hussh_link_rekey(hussh_link *link) {
  int rc;
  if (link->dead || !link->handshake_done)
    return HUSSH_E_STATE;
  if (link_in_kex(link))
    return 0;
  memset(&link->session->startup_key_state, 0, sizeof(link->session->startup_key_state));
  rc = _libssh2_kex_exchange(link->session, 1, &link->session->startup_key_state);
  if (rc && rc != LIBSSH2_ERROR_EAGAIN) {
    transport_failed(link, rc);
    return HUSSH_E_DEAD;
  }
  link->was_rekeying = 1;
  return 0;
}

/* ---- the pump ------------------------------------------------------------ */

static void flush_channels(hussh_link *root) {
  while (root->dirty_head && goes_on(root)) {
    hussh_channel *channel = root->dirty_head;
    root->dirty_head = channel->next_dirty;
    if (!root->dirty_head)
      root->dirty_tail = NULL;
    channel->dirty = 0;
    channel_flush(channel);
  }
}

/* Writes as write() does, but raises no SIGPIPE where nobody reads the pipe any more,
 * whatever the program does with that signal.  A SIGPIPE that was pending stays so. */
static ssize_t write_quietly(int fd, const void *bytes, size_t len) {
  sigset_t pipe_only, before, pending;
  int failed, waiting, signal_number;
  ssize_t n;
  sigemptyset(&pipe_only);
  sigaddset(&pipe_only, SIGPIPE);
  sigemptyset(&pending);
  if (pthread_sigmask(SIG_BLOCK, &pipe_only, &before))
    return write(fd, bytes, len);
  sigpending(&pending);
  waiting = sigismember(&pending, SIGPIPE);
  n = write(fd, bytes, len);
  failed = errno;
  if (n < 0 && failed == EPIPE && !waiting) {
    sigpending(&pending); /* else sigwait would wait for the next one */
    if (sigismember(&pending, SIGPIPE))
      sigwait(&pipe_only, &signal_number);
  }
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  errno = failed;
  return n;
}

static void write_out(hussh_link *root) {
  while (root->tx.len && !root->dead) {
    ssize_t n = root->tcp
                    ? send(root->write_fd, queue_head(&root->tx), root->tx.len, MSG_NOSIGNAL)
                    : write_quietly(root->write_fd, queue_head(&root->tx), root->tx.len);
    if (n > 0) {
      root->sent += (uint64_t)n;
      root->moved += (uint64_t)n;
      queue_drop(&root->tx, (size_t)n);
    } else if (n < 0 && errno == EINTR) {
      continue;
    } else if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
      break;
    } else {
      /* The peer's last bytes may still be unread, so the reading side fails the link,
       * after them.  Our bytes have nowhere to go. */
      root->write_failed = 1;
      queue_clear(&root->tx);
    }
  }
}

static void flush(hussh_link *root) {
  do {
    flush_channels(root);
    if (root->source == SOURCE_FDS)
      write_out(root);
    channels_unblock(root);
  } while (root->dirty_head && !root->dead);
}

/* Whether nothing more is read now: replies pile up, or a key exchange takes nothing until
 * something has been computed for it. */
static int is_full(const hussh_link *root) {
  return root->tx.len >= TX_FLOOD || (root->rx.len >= RX_FLOOD && work_is_missing(root));
}

/* Reads once from the root's source and returns the number of bytes; 0: there are none. */
static size_t read_in(hussh_link *root) {
  unsigned char *room;
  ssize_t n;
  if (root->dead || is_full(root))
    return 0;
  room = queue_room(&root->rx, READ_CHUNK);
  if (!room) {
    link_out_of_memory(root);
    return 0;
  }
  do
    n = read(root->read_fd, room, READ_CHUNK);
  while (n < 0 && errno == EINTR);
  if (n > 0) {
    queue_added(&root->rx, (size_t)n);
    root->moved += (uint64_t)n;
    link_ready(root);
    return (size_t)n;
  }
  if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK) && !root->write_failed)
    return 0;
  if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != ECONNRESET && errno != EPIPE) {
    link_fail_text(root, HUSSH_DEAD_OS, errno, strerror(errno));
    return 0;
  }
  root->rx_eof = 1;
  link_ready(root);
  return 0;
}

/* Lets the kernel acknowledge what was read, unless something that was sent has done that.
 * The kernel resets this after every read.  Without it a bastion's sshd, which does not set
 * TCP_NODELAY before 10.1, waits up to 40 ms longer.  It waits for a round trip in any case:
 * its second small packet goes when the first is acknowledged. */
static void acknowledge(const hussh_link *root) {
  static const int on = 1;
  if (root->tcp && !root->dead)
    setsockopt(root->read_fd, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof(on));
}

static void process_ready(hussh_link *root) {
  while (root->ready_head && goes_on(root)) {
    hussh_link *link = root->ready_head;
    root->ready_head = link->next_ready;
    if (!root->ready_head)
      root->ready_tail = NULL;
    link->ready = 0;
    process(link);
  }
}

/* 1 where nobody reads our pipe any more: reading once more ends the link, but poll() would
 * never ask for it. */
static int must_read(const hussh_link *root) {
  return root->write_failed && !root->rx_eof && !root->dead && !is_full(root);
}

static int bits(const hussh_link *root, int more) {
  more = more || endpoints_wait(root);
  return (root->tx.len ? HUSSH_WANT_WRITE : 0) | (more ? HUSSH_MORE : 0) |
         (root->event_count ? HUSSH_EVENTS : 0) | (is_full(root) ? HUSSH_FULL : 0) |
         (root->works ? HUSSH_WORK : 0);
}

int hussh_pump(hussh_link *root, size_t budget) {
  size_t done = 0, n;
  int is_short;
  root->idle_turns = 0;
  flush(root);
  do {
    n = root->source == SOURCE_FDS && !root->rx_eof ? read_in(root) : 0;
    is_short = n && n < READ_CHUNK;
    if (is_short && !root->endpoints)
      acknowledge(root); /* first: a key exchange may compute for milliseconds */
    process_ready(root);
    done += n + endpoints_run(root);
    nudge(root);
    flush(root);
    if (is_short && root->endpoints)
      acknowledge(root); /* last: a tunnel's bytes do not wait for it */
    /* Where no event waits for the caller, it also takes what came meanwhile. */
  } while (done < budget && root->dead != HUSSH_DEAD_STUCK &&
           (root->ready_head || endpoints_wait(root) || n == READ_CHUNK ||
            (n && !root->event_count)));
  return bits(root, root->ready_head || n == READ_CHUNK || must_read(root));
}

int hussh_flush(hussh_link *root) {
  root->idle_turns = 0;
  flush(root);
  return bits(root, root->ready_head || must_read(root));
}

int hussh_feed(hussh_link *link, const void *bytes, size_t len) {
  if (link->source != SOURCE_MEMORY)
    return HUSSH_E_STATE;
  if (link->dead)
    return HUSSH_E_DEAD;
  if (!len)
    link->rx_eof = 1;
  else if (queue_append(&link->rx, bytes, len)) {
    link_out_of_memory(link);
    return HUSSH_E_MEMORY;
  }
  link_ready(link);
  return 0;
}

size_t hussh_drain(hussh_link *link, void *bytes, size_t size) {
  size_t n = link->source == SOURCE_MEMORY ? queue_take(&link->tx, bytes, size) : 0;
  link->sent += n;
  return n;
}

