/* fuzz_tree.c - trees of links: any calls in any order, any messages, memory that fails.
 *
 * The sessions are not encrypted, and most are made ready by hand (see testing.h), so that
 * all the time goes into the shim: tables, queues, windows, events, ends.  libssh2 takes no
 * message from number 50 on without keys, so those come by its hook.  fuzz_keyed.c and fuzz_kex.c
 * have the rest.
 *
 * What must hold: no event of an object that is gone, no object that is left at the end, no
 * death for want of memory unless memory failed, no call that the pump makes for nothing.
 *
 * build: tree.c kex_work.c crypto/mlkem.c send.c channel.c channel_signal.c endpoint.c channel_recv.c message_hook.c link.c pump.c -Dmalloc=test_malloc -Dcalloc=test_calloc -Drealloc=test_realloc
 * build: crypto/aesgcm.c crypto/chachapoly.c stubs.c libssh2
 */
#include "fuzzing.h"

#define LINKS 6
#define CHANNELS 16

enum {
  OP_SAY, OP_FEED, OP_RAW, OP_HELLO, OP_PUMP, OP_FLUSH, OP_DRAIN, OP_ROOT, OP_NEST, OP_OPEN,
  OP_FREE_LINK, OP_FREE_CHANNEL, OP_FINISH, OP_WRITE, OP_EOF, OP_CLOSE, OP_REQUEST, OP_SIGNAL,
  OP_READ, OP_ORDER, OP_AWAIT, OP_WIDEN, OP_OFFERS, OP_ACCEPT, OP_GLOBAL, OP_END, OP_KEX,
  OP_NO_MEMORY, OP_EVENTS, OP_LOGIN, OP_END_OF_STREAM, OPS
};

static hussh_link *links[LINKS];
static hussh_channel *channels[CHANNELS];
static hussh_link *owners[CHANNELS]; /* the link of each channel */
static int memory_failed;

static hussh_link *any_link(struct input *in) {
  unsigned at = take(in), i;
  for (i = 0; i < LINKS; i++)
    if (links[(at + i) % LINKS])
      return links[(at + i) % LINKS];
  return NULL;
}

static int any_channel(struct input *in) {
  unsigned at = take(in), i;
  for (i = 0; i < CHANNELS; i++)
    if (channels[(at + i) % CHANNELS])
      return (int)((at + i) % CHANNELS);
  return -1;
}

static void keep_link(hussh_link *link) {
  int i;
  for (i = 0; i < LINKS; i++)
    if (!links[i]) {
      links[i] = link;
      return;
    }
  if (link)
    hussh_link_free(link);
}

static void keep_channel(hussh_link *link, hussh_channel *channel) {
  int i;
  for (i = 0; channel && i < CHANNELS; i++)
    if (!channels[i]) {
      channels[i] = channel;
      owners[i] = link;
      return;
    }
  if (channel)
    hussh_channel_free(channel);
}

static void free_link(hussh_link *link) {
  int i;
  for (i = 0; i < CHANNELS; i++)
    if (channels[i] && owners[i] == link)
      channels[i] = NULL;
  for (i = 0; i < LINKS; i++)
    if (links[i] == link)
      links[i] = NULL;
  hussh_link_free(link);
}

/* Its root, if nobody has freed that. */
static hussh_link *root_of(hussh_link *link) {
  int i;
  for (i = 0; link && i < LINKS; i++)
    if (links[i] == link->root)
      return links[i];
  return NULL;
}

static void new_link(struct input *in, hussh_link *link) {
  if (!link)
    return;
  switch (take(in) % 4) {
  case 0: case 1:
    make_ready(link);
    break;
  case 2: /* keys are there, the login is not */
    make_ready(link);
    link->authenticated = 0;
    link->phase = HUSSH_AUTH;
    link->session->state = 0;
    break;
  default: /* from the banner on */
    break;
  }
  keep_link(link);
}

static int has_token(const hussh_link *link, uint64_t token) {
  uint32_t i;
  for (i = 0; i < link->channel_slots; i++) /* those too that their owner has let go */
    if (link->channels[i] && hussh_channel_token(link->channels[i]) == token)
      return 1;
  return hussh_link_token(link) == token;
}

/* Every event belongs to something that is there. */
static void take_events(hussh_link *root) {
  uint64_t tokens[8];
  size_t count = hussh_events(root, tokens, 1 + root->event_count % 8), i, k;
  for (i = 0; i < count; i++) {
    int known = 0;
    for (k = 0; k < i; k++)
      CHECK(tokens[k] != tokens[i]);
    for (k = 0; k < LINKS; k++)
      known |= links[k] && links[k]->root == root && has_token(links[k], tokens[i]);
    CHECK(known);
  }
}

/* Wraps a stream for a nested link into messages of the links below, down to the root. */
static void feed(hussh_link *link, const struct message *stream) {
  static struct message inner, packet;
  inner = *stream;
  while (link->outer && inner.len + 200 < sizeof(inner.bytes)) {
    unsigned char head[9] = {MSG_CHANNEL_DATA};
    put_u32(put_u32(head + 1, link->outer->local_id), (uint32_t)inner.len);
    packet.len = 0;
    put(&packet, head, sizeof(head));
    put(&packet, inner.bytes, inner.len);
    inner.len = 0;
    put_packet(&inner, &packet);
    link = link->parent;
  }
  if (link->source == SOURCE_MEMORY)
    hussh_feed(link, inner.bytes, inner.len);
}

static void on_link(struct input *in, unsigned op, hussh_link *link) {
  static struct message m, stream;
  hussh_link *root = root_of(link);
  const void *text;
  size_t len;
  int count;
  switch (op) {
  case OP_SAY:
    take_message(in, &m);
    if (m.bytes[0] >= MSG_USERAUTH_FIRST || m.bytes[0] == MSG_UNIMPLEMENTED)
      say_message(link, &m, m.len);
    break;
  case OP_FEED:
    stream.len = 0;
    for (count = 1 + (int)(take(in) % 4); count && stream.len < 60000; count--) {
      take_message(in, &m);
      if (m.len < 66000 && stream.len + m.len < sizeof(stream.bytes) - 300)
        put_packet(&stream, &m);
    }
    feed(link, &stream);
    break;
  case OP_RAW:
    text = take_bytes(in, &len);
    stream.len = 0;
    put(&stream, text, len);
    feed(link, &stream);
    break;
  case OP_HELLO:
    feed(link, &hello);
    break;
  case OP_PUMP:
    if (root)
      hussh_pump(root, take_number(in));
    break;
  case OP_FLUSH:
    if (root)
      hussh_flush(root);
    break;
  case OP_DRAIN:
    hussh_drain(link, m.bytes, take_number(in) % sizeof(m.bytes));
    break;
  case OP_OPEN:
    text = take_text(in, &len);
    keep_channel(link, hussh_channel_open(link, text, len, bulk, take(in), take_number(in)));
    break;
  case OP_OFFERS:
    hussh_link_take_offers(link, (int)(take(in) & 1));
    hussh_link_offer(link, m.bytes, take_number(in) % sizeof(m.bytes));
    break;
  case OP_ACCEPT: {
    uint32_t id = take(in) % 8, window = take_number(in), most = take_number(in);
    keep_channel(link, hussh_channel_accept(link, id, window, most, take_number(in)));
    break;
  }
  case OP_GLOBAL: {
    uint32_t port;
    m.len = 0;
    put(&m, (const unsigned char[]){MSG_GLOBAL_REQUEST}, 1);
    put_fields(in, &m, "tBtn");
    if (take(in) & 1)
      hussh_link_keep_reply(link);
    hussh_link_send(link, m.bytes, m.len);
    hussh_link_kept_reply(link, &port);
    break;
  }
  case OP_LOGIN: /* any message from 50 on, and what the server said */
    m.len = 0;
    put(&m, (const unsigned char[]){MSG_USERAUTH_REQUEST}, 1);
    put_fields(in, &m, "tttBt");
    hussh_link_send(link, m.bytes, m.len);
    hussh_link_message(link, m.bytes, take_number(in) % sizeof(m.bytes));
    break;
  case OP_END:
    switch (take(in) % 4) {
    case 0:
      hussh_link_kill(link);
      break;
    case 1:
      hussh_link_fail(link, 5, "broken");
      break;
    case 2:
      hussh_link_disconnect(link, 11, "bye");
      break;
    default:
      hussh_link_notify(link);
    }
    break;
  case OP_KEX:
    if (link->handshake_done && !link->session->startup_key_state.state)
      set_kex(link, (int)(take(in) & 1));
    break;
  case OP_END_OF_STREAM:
    hussh_feed(link, "", 0);
    break;
  case OP_EVENTS:
    if (root)
      take_events(root);
    break;
  case OP_FREE_LINK:
    free_link(link);
    break;
  default:
    break;
  }
}

static void on_channel(struct input *in, unsigned op, int which) {
  hussh_channel *channel = channels[which];
  static unsigned char bytes[70000];
  uint32_t pairs[16];
  const void *text;
  size_t len;
  switch (op) {
  case OP_NEST:
    new_link(in, hussh_link_over_channel(channel));
    break;
  case OP_FREE_CHANNEL:
    channels[which] = NULL;
    hussh_channel_free(channel);
    break;
  case OP_FINISH:
    channels[which] = NULL;
    hussh_channel_finish(channel);
    break;
  case OP_WRITE:
    len = take_number(in) % sizeof(bulk);
    CHECK(hussh_channel_write(channel, bulk, len) <= (ssize_t)len);
    break;
  case OP_EOF:
    hussh_channel_eof(channel);
    break;
  case OP_CLOSE:
    hussh_channel_close(channel);
    break;
  case OP_REQUEST:
    text = take_text(in, &len);
    hussh_channel_request(channel, text, len, (int)(take(in) & 1), bulk,
                          take_number(in) % sizeof(bulk));
    break;
  case OP_SIGNAL:
    text = take_text(in, &len);
    hussh_channel_signal(channel, text, len, (int)(take(in) & 1));
    break;
  case OP_READ: {
    unsigned stream = take(in) & 1;
    size_t had = stream ? channel->rx_err.len : channel->rx.len;
    len = take_number(in) % sizeof(bytes);
    CHECK(hussh_channel_read(channel, (int)stream, bytes, len) ==
          (ssize_t)(len < had ? len : had));
    break;
  }
  case OP_ORDER:
    hussh_channel_keep_order(channel);
    len = hussh_channel_order(channel, pairs, take(in) % sizeof(pairs));
    CHECK(len % 8 == 0);
    break;
  case OP_AWAIT:
    if (take(in) & 1)
      hussh_channel_await_close(channel, take_number(in));
    else
      hussh_channel_await_message(channel, take(in), take_number(in));
    break;
  case OP_WIDEN:
    hussh_channel_widen(channel, take_number(in));
    break;
  default:
    break;
  }
}

static int is_for_channels(unsigned op) {
  return op == OP_NEST || (op >= OP_FREE_CHANNEL && op <= OP_WIDEN);
}

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv) {
  (void)argc;
  (void)argv;
  make_hello();
  return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct input in = {data, size};
  int i, turns;
  memory_failed = 0;
  fail_in = -1;
  new_link(&in, hussh_link_over_memory());
  for (turns = 0; in.left && turns < 400; turns++) {
    unsigned op = take(&in) % OPS;
    if (op == OP_NO_MEMORY) {
      fail_in = (long)take(&in) % 64;
      memory_failed = 1;
    } else if (op == OP_ROOT) {
      new_link(&in, hussh_link_over_memory());
    } else if (is_for_channels(op)) {
      int which = any_channel(&in);
      if (which >= 0)
        on_channel(&in, op, which);
    } else {
      hussh_link *link = any_link(&in);
      if (link)
        on_link(&in, op, link);
    }
    for (i = 0; i < LINKS; i++)
      if (links[i])
        check_link(links[i], memory_failed);
    for (i = 0; i < CHANNELS; i++)
      if (channels[i])
        check_channel(channels[i]);
  }
  fail_in = -1;
  for (i = 0; i < CHANNELS; i++)
    if (channels[i] && take(&in) & 1) {
      hussh_channel_free(channels[i]);
      channels[i] = NULL;
    }
  for (i = 0; i < LINKS; i++) {
    hussh_link *link = links[(i + size) % LINKS];
    if (link)
      free_link(link);
  }
  CHECK(!hussh_live());
  return 0;
}
