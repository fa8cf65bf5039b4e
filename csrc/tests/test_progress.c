/* test_progress.c - pump.c: with any windows and key exchanges it moves a byte or returns.
 *
 * Random trees of one to three links, over memory or a socket, with a peer for each that
 * grants windows from one byte up, begins and ends key exchanges when it likes, and reads
 * and writes in pieces.  Each call must return without the belt of pump.c; and once the
 * peers let everything pass, all bytes arrive, in order, in both directions.
 *
 * scripts/check-c builds and runs it, under ASan and UBSan.
 *
 * build: tree.c kex_work.c crypto/mlkem.c send.c channel.c channel_signal.c endpoint.c channel_recv.c message_hook.c link.c pump.c -Dmalloc=test_malloc -Dcalloc=test_calloc -Drealloc=test_realloc
 * build: crypto/aesgcm.c crypto/chachapoly.c stubs.c libssh2
 */
#include "testing.h"
#include "mac.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#define DEPTH_MAX 3
#define TREES 20
#define STEPS 250
#define WATCHDOG_SECONDS 120

/* One link and its peer, and the channel over which the next one comes (or the data). */
struct hop {
  hussh_link *link;
  hussh_channel *channel;
  hussh_queue rx, tx;       /* of the peer: what it has not looked at, and what it could not send */
  uint32_t window;          /* what the peer lets us send */
  uint32_t credit;          /* what we let the peer send */
  int in_kex;
};

static struct hop hops[DEPTH_MAX];
static int depth, tree_number, peer_fd;
static hussh_link *root;
static size_t to_send, written, heard_bytes; /* of the upload */
static size_t to_say, said_bytes, read_bytes; /* of the download */
static int peer_got_eof, wrote_eof;

static unsigned char byte_at(size_t at) {
  return (unsigned char)(at * 2654435761u >> 16);
}

static uint32_t below(uint32_t bound) {
  return bound ? random_number() % bound : 0;
}

/* Sizes of all magnitudes: half of them are small. */
static uint32_t any_size(uint32_t most) {
  return 1 + below(1 + (most >> below(18)));
}

/* ---- the peers ---------------------------------------------------------- */

static void peer_says(int at, const char *format, ...) {
  unsigned char head[5];
  static const unsigned char padding[16];
  size_t pad;
  va_list values;
  va_start(values, format);
  compose(&composed, format, values);
  va_end(values);
  pad = 8 - (5 + composed.len) % 8;
  if (pad < 4)
    pad += 8;
  put_u32(head, (uint32_t)(1 + composed.len + pad));
  head[4] = (unsigned char)pad;
  CHECK(!queue_append(&hops[at].tx, head, 5) &&
        !queue_append(&hops[at].tx, composed.bytes, composed.len) &&
        !queue_append(&hops[at].tx, padding, pad));
}

static void peer_grants(int at, uint32_t add) {
  if (hops[at].in_kex || add > UINT32_MAX - hops[at].window)
    return;
  hops[at].window += add;
  peer_says(at, "buu", MSG_CHANNEL_WINDOW_ADJUST, 0, add);
}

static void peer_hears(int at, const unsigned char *message, size_t len) {
  struct hop *hop = &hops[at];
  size_t size, i;
  switch (message[0]) {
  case MSG_CHANNEL_DATA:
    size = get_u32(message + 5);
    CHECK(len == 9 + size && size <= hop->window && size);
    hop->window -= (uint32_t)size;
    if (at + 1 < depth) {
      CHECK(!queue_append(&hops[at + 1].rx, message + 9, size));
      return;
    }
    CHECK(!peer_got_eof);
    for (i = 0; i < size; i++)
      CHECK(message[9 + i] == byte_at(heard_bytes++));
    return;
  case MSG_CHANNEL_WINDOW_ADJUST:
    hop->credit += get_u32(message + 5);
    return;
  case MSG_CHANNEL_EOF:
    CHECK(at + 1 == depth && heard_bytes == to_send);
    peer_got_eof = 1;
    return;
  default:
    CHECK(message[0] == MSG_IGNORE); /* a nudge */
  }
}

/* The peers read all that they got, and hand on what windows and the socket allow. */
static void peers_work(size_t most) {
  size_t used, moved;
  int at;
  for (at = 0; at < depth; at++)
    while (hops[at].rx.len >= 4 &&
           hops[at].rx.len >= 4 + (size_t)get_u32(queue_head(&hops[at].rx))) {
      used = unpack(queue_head(&hops[at].rx), hops[at].rx.len, &received);
      queue_drop(&hops[at].rx, used);
      peer_hears(at, received.bytes, received.len);
    }
  for (at = depth - 1; at > 0; at--)
    while (hops[at].tx.len && hops[at - 1].credit && !hops[at - 1].in_kex) {
      size_t n = hops[at].tx.len;
      if (n > hops[at - 1].credit)
        n = hops[at - 1].credit;
      if (n > 30000)
        n = 1 + below(30000);
      hops[at - 1].credit -= (uint32_t)n;
      peer_says(at - 1, "bud", MSG_CHANNEL_DATA, 0, queue_head(&hops[at].tx), n);
      queue_drop(&hops[at].tx, n);
    }
  while (hops[0].tx.len && most) {
    size_t n = hops[0].tx.len < most ? hops[0].tx.len : most;
    if (peer_fd < 0)
      CHECK(!hussh_feed(root, queue_head(&hops[0].tx), n));
    else {
      ssize_t wrote = write(peer_fd, queue_head(&hops[0].tx), n);
      if (wrote < 0) {
        CHECK(errno == EAGAIN);
        break;
      }
      n = (size_t)wrote;
    }
    queue_drop(&hops[0].tx, n);
    most -= n;
  }
  do {
    static unsigned char bytes[50000];
    size_t n = most < sizeof(bytes) ? most : sizeof(bytes);
    if (peer_fd < 0)
      moved = hussh_drain(root, bytes, n);
    else {
      ssize_t got = n ? read(peer_fd, bytes, n) : 0;
      CHECK(got >= 0 || errno == EAGAIN);
      moved = got > 0 ? (size_t)got : 0;
    }
    CHECK(!queue_append(&hops[0].rx, bytes, moved));
    most -= moved;
  } while (moved);
}

/* ---- our side ----------------------------------------------------------- */

static void all_alive(void) {
  int at;
  for (at = 0; at < depth; at++)
    if (hops[at].link->dead) {
      fprintf(stderr, "tree %d: link %d of %d: %s\n", tree_number, at, depth, hops[at].link->text);
      exit(1);
    }
}

/* Until nothing more is to do: one call after another moves a byte or says so. */
static void pump_all(void) {
  uint64_t before;
  int flags, idle = 0;
  do {
    before = root->moved;
    alarm(WATCHDOG_SECONDS);
    flags = below(8) ? hussh_pump(root, any_size(1 << 20)) : hussh_flush(root);
    all_alive();
    idle = root->moved == before ? idle + 1 : 0;
    CHECK(idle < 40); /* hussh_flush does not read, but every eighth call at most */
  } while (flags & HUSSH_MORE);
}

static void set_hop_kex(int at, int running) {
  if (hops[at].in_kex == running)
    return;
  hops[at].in_kex = running;
  set_kex(hops[at].link, running);
  link_ready(hops[at].link); /* as after the peer's message that began or ended it */
}

static void we_write(size_t most) {
  static unsigned char bytes[1 << 17];
  size_t n = to_send - written, i;
  ssize_t took;
  if (n > most)
    n = most;
  if (n > sizeof(bytes))
    n = sizeof(bytes);
  for (i = 0; i < n; i++)
    bytes[i] = byte_at(written + i);
  if (n) {
    took = hussh_channel_write(hops[depth - 1].channel, bytes, n);
    CHECK(took >= 0 && (size_t)took <= n);
    written += (size_t)took;
  }
  if (written == to_send && !wrote_eof && !below(3)) {
    CHECK(!hussh_channel_eof(hops[depth - 1].channel));
    wrote_eof = 1;
  }
}

static void we_read(size_t most) {
  static unsigned char bytes[1 << 17];
  ssize_t n = hussh_channel_read(hops[depth - 1].channel, 0, bytes,
                                 most < sizeof(bytes) ? most : sizeof(bytes));
  ssize_t i;
  for (i = 0; i < n; i++)
    CHECK(bytes[i] == byte_at(read_bytes++));
}

static void peer_writes(size_t most) {
  static unsigned char bytes[30000];
  struct hop *hop = &hops[depth - 1];
  size_t n = to_say - said_bytes, i;
  if (n > most)
    n = most;
  if (n > sizeof(bytes))
    n = sizeof(bytes);
  if (n > hop->credit)
    n = hop->credit;
  if (!n || hop->in_kex)
    return;
  for (i = 0; i < n; i++)
    bytes[i] = byte_at(said_bytes++);
  hop->credit -= (uint32_t)n;
  peer_says(depth - 1, "bud", MSG_CHANNEL_DATA, 0, bytes, n);
}

/* ---- keys that change nothing ------------------------------------------- */

static int same_bytes(LIBSSH2_SESSION *session, unsigned seqno, unsigned char *block, size_t len,
                      void **abstract, int firstlast) {
  (void)session, (void)seqno, (void)block, (void)len, (void)abstract, (void)firstlast;
  return 0;
}

static int no_hash(LIBSSH2_SESSION *session, unsigned char *to, uint32_t seqno,
                   const unsigned char *packet, size_t len, const unsigned char *more,
                   size_t more_len, void **abstract) {
  (void)session, (void)to, (void)seqno, (void)packet, (void)len;
  (void)more, (void)more_len, (void)abstract;
  return 0;
}

static const LIBSSH2_CRYPT_METHOD plain = {.name = "x", .blocksize = 8, .crypt = same_bytes};
static const LIBSSH2_MAC_METHOD no_mac = {.name = "x", .hash = no_hash};

/* As if keys had been exchanged: before that libssh2 takes no message of a channel. */
static void set_keys(LIBSSH2_SESSION *session) {
  session->local.crypt = session->remote.crypt = &plain;
  session->local.mac = session->remote.mac = &no_mac;
  session->state |= LIBSSH2_STATE_NEWKEYS;
}

/* ---- one tree ----------------------------------------------------------- */

static void grow(void) {
  int fds[2], at;
  peer_fd = -1;
  if (below(2)) {
    CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds));
    peer_fd = fds[1];
    CHECK((root = hussh_link_over_fds(fds[0], fds[0])));
  } else {
    CHECK((root = hussh_link_over_memory()));
  }
  depth = 1 + (int)below(DEPTH_MAX);
  memset(hops, 0, sizeof(hops));
  for (at = 0; at < depth; at++) {
    struct hop *hop = &hops[at];
    hop->link = at ? hussh_link_over_channel(hops[at - 1].channel) : root;
    CHECK(hop->link);
    make_ready(hop->link);
    set_keys(hop->link->session);
    hop->credit = any_size(2 << 20);
    hop->window = below(3) ? any_size(1 << 20) : 0;
    hop->channel = hussh_channel_open(hop->link, "x", 1, NULL, 0, hop->credit);
    CHECK(hop->channel);
    queue_clear(&hop->link->tx); /* the question */
    say(hop->link, "buuuu", MSG_CHANNEL_OPEN_CONFIRMATION, 0, 0, hop->window, any_size(40000));
    CHECK(hop->channel->state == HUSSH_CH_OPEN);
  }
  to_send = any_size(1 << 20);
  to_say = any_size(512 << 10);
  written = heard_bytes = said_bytes = read_bytes = 0;
  peer_got_eof = wrote_eof = 0;
}

static void step_at_random(void) {
  int at = (int)below((uint32_t)depth);
  switch (below(8)) {
  case 0: set_hop_kex(at, 1); break;
  case 1: set_hop_kex(at, 0); break;
  case 2: peer_grants(at, any_size(256 << 10)); break;
  case 3: we_write(any_size(1 << 17)); break;
  case 4: we_read(any_size(1 << 17)); break;
  case 5: peer_writes(any_size(30000)); break;
  case 6: peers_work(any_size(1 << 20)); break;
  default: pump_all();
  }
}

static int finished(void) {
  return heard_bytes == to_send && peer_got_eof && read_bytes == to_say;
}

static uint64_t progress(void) {
  return root->moved + heard_bytes + read_bytes + written + said_bytes;
}

/* Everybody reads, and no key exchange lasts. */
static void let_everything_pass(void) {
  int idle = 0, at;
  while (!finished()) {
    uint64_t before = progress();
    for (at = 0; at < depth; at++) {
      set_hop_kex(at, 0);
      if (hops[at].window < 100000)
        peer_grants(at, 100000);
    }
    pump_all();
    we_write(1 << 17);
    pump_all();
    peers_work(SIZE_MAX);
    peer_writes(30000);
    peers_work(SIZE_MAX);
    pump_all();
    we_read(1 << 17);
    idle = progress() == before ? idle + 1 : 0;
    if (idle > 50) {
      fprintf(stderr, "tree %d (depth %d): stalled at %zu of %zu up, %zu of %zu down\n",
              tree_number, depth, heard_bytes, to_send, read_bytes, to_say);
      exit(1);
    }
  }
}

static void end(void) {
  int at, fd = root->read_fd;
  for (at = depth - 1; at >= 0; at--) {
    hussh_link_free(hops[at].link);
    queue_clear(&hops[at].rx);
    queue_clear(&hops[at].tx);
  }
  if (peer_fd >= 0) {
    close(peer_fd);
    close(fd);
  }
}

int main(void) {
  int steps;
  for (tree_number = 0; tree_number < TREES; tree_number++) {
    grow();
    for (steps = 0; steps < STEPS; steps++)
      step_at_random();
    let_everything_pass();
    end();
  }
  CHECK(hussh_live() == 0);
  puts("ok");
  return 0;
}
