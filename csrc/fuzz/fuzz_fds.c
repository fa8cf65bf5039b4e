/* fuzz_fds.c - a link over descriptors, and local sockets joined to its channels.
 *
 * The peer at the other end of the socket or pipes writes whole, cut and broken packets, reads
 * or does not, and goes away.  The sockets of endpoints do all that, too.
 *
 * What must hold: each descriptor is closed once and by its owner, what passes through a tunnel
 * is never more than was sent, nothing is left.
 *
 * build: tree.c kex_work.c crypto/mlkem.c send.c channel.c channel_signal.c endpoint.c channel_recv.c message_hook.c link.c pump.c -Dmalloc=test_malloc -Dcalloc=test_calloc -Drealloc=test_realloc
 * build: crypto/aesgcm.c crypto/chachapoly.c stubs.c libssh2 fuzz/peer_packets.c
 */
#include "keyed.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#define ENDS 4

enum {
  OP_SAY, OP_BYTES, OP_HEAR, OP_PUMP, OP_FLUSH, OP_OPEN, OP_CONFIRM, OP_NEW, OP_JOIN, OP_FREE,
  OP_LOCAL_WRITE, OP_LOCAL_READ, OP_LOCAL_SHUT, OP_LOCAL_CLOSE, OP_PEER_SHUT, OP_PEER_CLOSE,
  OP_KEX, OP_CHANNEL_WRITE, OP_CHANNEL_FREE, OP_CHANNEL_FINISH, OP_WINDOW, OP_DATA, OP_EVENTS,
  OP_KILL, OP_NO_MEMORY, OP_ENDPOINTS_CLOSE, OP_SMALL, OPS
};

static struct end {
  hussh_endpoint *endpoint;
  hussh_channel *channel;
  int ours, theirs; /* of the socket pair; theirs: -1 when it was closed */
  uint64_t wrote;
} ends[ENDS];

static hussh_link *root;
static int read_fd, write_fd, to_us, from_us, memory_failed;
static unsigned char bytes[70000];
static struct peer_way way_to_us, way_from_us;

static void close_fd(int *fd) {
  if (*fd >= 0)
    CHECK(!close(*fd));
  *fd = -1;
}

static void new_pair(int fds[2]) {
  CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds));
}

/* A TCP connection over loopback, where the pump acknowledges and raises no SIGPIPE. */
static void new_tcp(int fds[2]) {
  struct sockaddr_in address = {.sin_family = AF_INET};
  socklen_t len = sizeof(address);
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  CHECK(listener >= 0 && !bind(listener, (struct sockaddr *)&address, len) &&
        !listen(listener, 1) && !getsockname(listener, (struct sockaddr *)&address, &len));
  fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  CHECK(fds[0] >= 0 && !connect(fds[0], (struct sockaddr *)&address, len));
  fds[1] = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
  CHECK(fds[1] >= 0 && fcntl(fds[0], F_SETFL, O_NONBLOCK) != -1 && !close(listener));
}

static void begin(struct input *in) {
  int fds[2], back[2];
  unsigned how = take(in) % 16;
  memory_failed = 0;
  fail_in = -1;
  if (how < 10) {
    new_pair(fds);
  } else if (how < 11) {
    new_tcp(fds);
  } else { /* two pipes, as to a proxy command */
    CHECK(!pipe2(fds, O_NONBLOCK | O_CLOEXEC) && !pipe2(back, O_NONBLOCK | O_CLOEXEC));
    read_fd = fds[0];
    to_us = fds[1];
    from_us = back[0];
    write_fd = back[1];
  }
  if (how < 11) {
    read_fd = write_fd = fds[0];
    to_us = from_us = fds[1];
  }
  root = hussh_link_over_fds(read_fd, write_fd);
  CHECK(root);
  key_both(root, &way_to_us, &way_from_us, 1 + take(in) % (peer_cipher_count - 1), 1, 0);
}

static struct end *any_end(struct input *in) {
  return &ends[take(in) % ENDS];
}

static void say_to_us(const void *what, size_t len) {
  if (to_us >= 0 && write(to_us, what, len) < 0)
    CHECK(errno == EAGAIN || errno == EPIPE || errno == ECONNRESET);
}

static void say_sealed(const struct message *m) {
  static const struct peer_lie no_lie;
  static unsigned char packet[PEER_PACKET];
  say_to_us(packet, peer_seal(&way_to_us, m->bytes, m->len, &no_lie, packet));
}

static void say_form(struct input *in, const char *fields, unsigned char type) {
  static struct message m;
  m.len = 0;
  put(&m, &type, 1);
  put_fields(in, &m, fields);
  say_sealed(&m);
}

static void close_peer(void) {
  int other = from_us;
  if (to_us == from_us)
    other = -1;
  close_fd(&to_us);
  close_fd(&other);
  from_us = -1;
}

static void free_end(struct end *end) {
  if (end->endpoint)
    hussh_endpoint_free(end->endpoint);
  end->endpoint = NULL;
  close_fd(&end->ours);
  close_fd(&end->theirs);
}

static void check_end(const struct end *end) {
  hussh_endpoint_info info;
  if (!end->endpoint)
    return;
  hussh_endpoint_get_info(end->endpoint, &info);
  CHECK(info.sent <= end->wrote && (!info.error || info.over));
}

static void on_end(struct input *in, unsigned op) {
  struct end *end = any_end(in);
  int fds[2];
  ssize_t n;
  switch (op) {
  case OP_OPEN:
    if (!end->channel)
      end->channel = hussh_channel_open(root, "direct-tcpip", 12, bulk, 16, take_number(in));
    break;
  case OP_NEW:
    if (end->endpoint || root->dead)
      break;
    new_pair(fds);
    end->ours = fds[0];
    end->theirs = fds[1];
    end->wrote = 0;
    end->endpoint = hussh_endpoint_new(root, end->ours);
    if (!end->endpoint)
      free_end(end);
    break;
  case OP_JOIN:
    if (end->endpoint && end->channel)
      hussh_endpoint_join(end->endpoint, end->channel);
    break;
  case OP_FREE:
    free_end(end);
    break;
  case OP_LOCAL_WRITE:
    n = end->theirs < 0 ? -1 : send(end->theirs, bulk, take_16(in), MSG_NOSIGNAL);
    end->wrote += n > 0 ? (uint64_t)n : 0;
    break;
  case OP_LOCAL_READ:
    if (end->theirs >= 0)
      (void)!read(end->theirs, bytes, take_16(in));
    break;
  case OP_LOCAL_SHUT:
    if (end->theirs >= 0)
      shutdown(end->theirs, (int)(take(in) % 3));
    break;
  case OP_LOCAL_CLOSE:
    close_fd(&end->theirs);
    break;
  case OP_SMALL:
    fds[0] = 4096;
    if (end->ours >= 0)
      setsockopt(end->ours, SOL_SOCKET, SO_SNDBUF, fds, sizeof(fds[0]));
    break;
  case OP_CHANNEL_WRITE:
    if (end->channel && !end->channel->endpoint)
      hussh_channel_write(end->channel, bulk, take_number(in) % sizeof(bulk));
    break;
  default:
    if (end->channel && op == OP_CHANNEL_FREE)
      hussh_channel_free(end->channel);
    else if (end->channel)
      hussh_channel_finish(end->channel);
    end->channel = NULL;
  }
}

static void on_root(struct input *in, unsigned op) {
  static struct message m;
  uint64_t tokens[3];
  const void *text;
  size_t len;
  switch (op) {
  case OP_SAY:
    take_message(in, &m);
    say_sealed(&m);
    break;
  case OP_BYTES:
    text = take_bytes(in, &len);
    say_to_us(text, len);
    break;
  case OP_CONFIRM:
    say_form(in, "cnnn", MSG_CHANNEL_OPEN_CONFIRMATION);
    break;
  case OP_WINDOW:
    say_form(in, "cn", MSG_CHANNEL_WINDOW_ADJUST);
    break;
  case OP_DATA:
    say_form(in, "cz", MSG_CHANNEL_DATA);
    break;
  case OP_HEAR:
    if (from_us >= 0)
      (void)!read(from_us, bytes, take_16(in));
    break;
  case OP_PUMP:
    hussh_pump(root, take_number(in));
    break;
  case OP_FLUSH:
    hussh_flush(root);
    break;
  case OP_PEER_SHUT:
    if (to_us >= 0)
      shutdown(to_us, (int)(take(in) % 3));
    break;
  case OP_PEER_CLOSE:
    close_peer();
    break;
  case OP_KEX:
    set_kex(root, (int)(take(in) & 1));
    break;
  case OP_EVENTS:
    hussh_events(root, tokens, 3);
    CHECK(hussh_endpoints_fd(root) >= -1);
    break;
  case OP_KILL:
    hussh_link_kill(root);
    break;
  case OP_NO_MEMORY:
    memory_failed = 1;
    fail_in = (long)take(in) % 64;
    break;
  case OP_ENDPOINTS_CLOSE:
    hussh_endpoints_close(root);
    break;
  default:
    break;
  }
}

static int is_for_ends(unsigned op) {
  return op == OP_OPEN || (op >= OP_NEW && op <= OP_LOCAL_CLOSE) || op == OP_SMALL ||
         (op >= OP_CHANNEL_WRITE && op <= OP_CHANNEL_FINISH);
}

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv) {
  int i;
  (void)argc;
  (void)argv;
  CHECK(!libssh2_init(0));
  peer_fix_random();
  for (i = 0; i < ENDS; i++)
    ends[i].ours = ends[i].theirs = -1;
  return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct input in = {data, size};
  int turns, i, lowest = dup(2), after;
  struct sigaction before;
  close(lowest);
  /* Only the peer of this harness may get SIGPIPE: the pump must raise none. */
  begin(&in);
  for (turns = 0; in.left && turns < 200; turns++) {
    unsigned op = take(&in) % OPS;
    int is_pump = op == OP_PUMP || op == OP_FLUSH;
    sigaction(SIGPIPE, NULL, &before);
    signal(SIGPIPE, is_pump ? SIG_DFL : SIG_IGN);
    if (is_for_ends(op))
      on_end(&in, op);
    else
      on_root(&in, op);
    sigaction(SIGPIPE, &before, NULL);
    check_link(root, memory_failed);
    for (i = 0; i < ENDS; i++)
      check_end(&ends[i]);
  }
  fail_in = -1;
  for (i = 0; i < ENDS && size & 1; i++)
    free_end(&ends[i]);
  hussh_link_free(root);
  for (i = 0; i < ENDS; i++) {
    free_end(&ends[i]);
    ends[i].channel = NULL;
  }
  close_peer();
  if (write_fd != read_fd)
    close_fd(&write_fd);
  close_fd(&read_fd);
  peer_way_clear(&way_to_us);
  peer_way_clear(&way_from_us);
  CHECK(!hussh_live());
  after = dup(2);
  CHECK(after == lowest && !close(after));
  return 0;
}
