/* fuzz_auth.c - the login: requests, answers, banners and early opens, in any order.
 *
 * The session is not encrypted (see fuzz_tree.c); keys are there, the login is not.
 *
 * What must hold: no success without a request, messages come out as they came in, in order,
 * and nothing but what is kept grows.
 *
 * build: tree.c kex_work.c crypto/mlkem.c send.c channel.c channel_signal.c endpoint.c channel_recv.c message_hook.c link.c pump.c -Dmalloc=test_malloc -Dcalloc=test_calloc -Drealloc=test_realloc
 * build: crypto/aesgcm.c crypto/chachapoly.c stubs.c libssh2
 */
#include "fuzzing.h"

#include <zlib.h>

#define KEPT 64

enum {
  OP_SUCCESS, OP_FAILURE, OP_MORE, OP_BANNER, OP_OTHER, OP_REQUEST, OP_QUERY, OP_ANSWER, OP_TAKE,
  OP_OPEN, OP_FREE, OP_CHANNEL_MESSAGE, OP_UNIMPLEMENTED, OP_KEX, OP_PUMP, OP_DRAIN, OP_EXT_INFO,
  OP_NO_MEMORY, OP_GLOBAL, OP_END, OPS
};

static hussh_link *session;
static hussh_channel *channels[4];
static struct { uint32_t len, sum; } kept[KEPT]; /* what must come out, oldest first */
static int kept_count, unsure, memory_failed, asked;

static uint32_t sum_of(const unsigned char *bytes, size_t len) {
  return (uint32_t)crc32(0, bytes, (unsigned)len);
}

/* Hands the link a login message, which is kept unless the login is over. */
static void say_login(struct message *m) {
  int before = session->message_count;
  int was_in = session->authenticated;
  if (m->bytes[0] < MSG_USERAUTH_FIRST || m->bytes[0] >= MSG_CONNECTION_FIRST)
    return;
  say_message(session, m, m->len);
  CHECK(was_in || !session->authenticated || (m->bytes[0] == MSG_USERAUTH_SUCCESS && asked));
  CHECK(session->message_count - before <= 1);
  if (session->message_count == before)
    return;
  CHECK(!was_in);
  if (kept_count < KEPT) {
    kept[kept_count].len = (uint32_t)m->len;
    kept[kept_count++].sum = sum_of(m->bytes, m->len);
  } else {
    unsure = 1;
  }
}

static void say_form(struct input *in, unsigned char type, const char *fields) {
  static struct message m;
  m.len = 0;
  put(&m, &type, 1);
  put_fields(in, &m, fields);
  twist(in, &m);
  say_login(&m);
}

static void take_kept(size_t size) {
  static unsigned char bytes[GUARDED];
  ssize_t len = hussh_link_message(session, bytes, size);
  CHECK(len >= 0 || len == HUSSH_E_AGAIN);
  if (unsure || memory_failed)
    return;
  CHECK((len >= 0) == (kept_count > 0) && (len < 0 || (uint32_t)len == kept[0].len));
  if (len >= 0 && (size_t)len <= size) {
    CHECK(sum_of(bytes, (size_t)len) == kept[0].sum);
    memmove(kept, kept + 1, sizeof(kept) - sizeof(*kept));
    kept_count--;
  }
}

static void send_form(struct input *in, unsigned char type, const char *fields) {
  static struct message m;
  int rc;
  m.len = 0;
  put(&m, &type, 1);
  put_fields(in, &m, fields);
  twist(in, &m);
  rc = hussh_link_send(session, m.bytes, m.len);
  asked |= !rc && m.bytes[0] == MSG_USERAUTH_REQUEST;
}

static void step(struct input *in, unsigned op) {
  static const unsigned char publickey[] = {MSG_USERAUTH_REQUEST, 0, 0, 0, 1, 'u', 0, 0, 0, 1, 's',
      0, 0, 0, 9, 'p', 'u', 'b', 'l', 'i', 'c', 'k', 'e', 'y', 0};
  static struct message m, stream;
  unsigned which;
  switch (op) {
  case OP_SUCCESS:
    say_form(in, MSG_USERAUTH_SUCCESS, "");
    break;
  case OP_FAILURE:
    say_form(in, MSG_USERAUTH_FAILURE, "tB");
    break;
  case OP_MORE:
    say_form(in, MSG_USERAUTH_60, "tt");
    break;
  case OP_BANNER:
    say_form(in, MSG_USERAUTH_BANNER, "zt");
    break;
  case OP_OTHER:
    say_form(in, (unsigned char)(MSG_USERAUTH_FIRST + take(in) % 30), "r");
    break;
  case OP_REQUEST:
    send_form(in, MSG_USERAUTH_REQUEST, "tttBttt");
    break;
  case OP_QUERY:
    asked |= !hussh_link_send(session, publickey, sizeof(publickey));
    break;
  case OP_ANSWER:
    send_form(in, MSG_USERAUTH_60 + 1, "nt");
    break;
  case OP_TAKE:
    take_kept(take_number(in) % GUARDED);
    break;
  case OP_OPEN:
    which = take(in) % 4;
    if (!channels[which])
      channels[which] = hussh_channel_open(session, "session", 7, NULL, 0, 1 << 20);
    break;
  case OP_FREE:
    which = take(in) % 4;
    if (channels[which])
      hussh_channel_free(channels[which]);
    channels[which] = NULL;
    break;
  case OP_CHANNEL_MESSAGE:
    take_message(in, &m);
    if (m.bytes[0] >= MSG_CONNECTION_FIRST)
      say_message(session, &m, m.len);
    break;
  case OP_UNIMPLEMENTED:
    m.len = 0;
    put(&m, (const unsigned char[]){MSG_UNIMPLEMENTED}, 1);
    put_fields(in, &m, "n");
    say_message(session, &m, m.len);
    break;
  case OP_KEX:
    set_kex(session, (int)(take(in) & 1));
    break;
  case OP_PUMP:
    hussh_pump(session, 1 << 20);
    break;
  case OP_DRAIN:
    hussh_drain(session, m.bytes, sizeof(m.bytes));
    break;
  case OP_EXT_INFO:
    m.len = stream.len = 0;
    put(&m, (const unsigned char[]){MSG_EXT_INFO}, 1);
    put_fields(in, &m, "ntttt");
    twist(in, &m);
    put_packet(&stream, &m);
    hussh_feed(session, stream.bytes, stream.len);
    hussh_pump(session, 1 << 20);
    hussh_link_sig_algs(session);
    break;
  case OP_NO_MEMORY:
    memory_failed = 1;
    fail_in = (long)take(in) % 16;
    break;
  case OP_GLOBAL:
    send_form(in, MSG_GLOBAL_REQUEST, "tB");
    break;
  default:
    hussh_link_disconnect(session, 11, "bye");
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct input in = {data, size};
  int turns, i;
  kept_count = unsure = memory_failed = asked = 0;
  fail_in = -1;
  memset(channels, 0, sizeof(channels));
  session = hussh_link_over_memory();
  CHECK(session);
  make_ready(session);
  session->authenticated = 0;
  session->phase = HUSSH_AUTH;
  session->session->state = 0;
  hussh_pump(session, 1);
  for (turns = 0; in.left && turns < 200; turns++) {
    step(&in, take(&in) % OPS);
    check_link(session, memory_failed);
    for (i = 0; i < 4; i++)
      if (channels[i])
        check_channel(channels[i]);
    CHECK(session->messages.len <= (2 << 20) + 8);
  }
  fail_in = -1;
  hussh_link_free(session);
  CHECK(!hussh_live());
  return 0;
}
