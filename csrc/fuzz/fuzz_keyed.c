/* fuzz_keyed.c - sessions with real ciphers, MACs and compression, up to three inside one another.
 *
 * A peer of its own (peer.h) encrypts what it sends and checks what hussh sends.  Its packets
 * may lie under a good MAC: about their length or padding, in what they decompress to, in every
 * message.  Until the first lie it is honest, and then each byte of data must arrive, in order,
 * and no link may end.
 *
 * build: tree.c kex_work.c crypto/mlkem.c send.c channel.c channel_command.c channel_signal.c endpoint.c channel_recv.c message_hook.c link.c pump.c -Dmalloc=test_malloc -Dcalloc=test_calloc -Drealloc=test_realloc
 * build: crypto/aesgcm.c crypto/chachapoly.c stubs.c libssh2 fuzz/peer_packets.c
 */
#include "keyed.h"

#define LEVELS 3
#define WINDOW ((uint32_t)1 << 20)

enum {
  OP_DATA, OP_MESSAGE, OP_LIE, OP_JUNK, OP_BOMB, OP_RAW, OP_PUMP, OP_PIECE, OP_DRAIN, OP_WRITE,
  OP_READ, OP_REQUEST, OP_SEQNO, OP_REKEY, OP_LONG, OP_NO_MEMORY, OP_EOF, OP_CLOSE, OP_OPEN,
  OP_GLOBAL, OP_REPLIES, OP_LOGIN, OP_END_OF_STREAM, OP_COMMAND, OPS
};

/* One link and the server at its other end. */
static struct level {
  hussh_link *link;
  hussh_channel *channel; /* carries data, or the next level */
  struct peer_way to_us, from_us;
  unsigned char *heard;   /* what hussh has sent and is not decrypted yet */
  size_t heard_len;
  uint32_t written, seen; /* bytes of data: what hussh was given, what the peer got */
  uint32_t said, read;    /* the other way */
  int corrupt;            /* what the peer says here cannot be understood any more */
} levels[LEVELS];

static unsigned depth, memory_failed, honest, deaf; /* deaf: what hussh sends is not understood */
static unsigned char wire[2 * PEER_BYTES];
static size_t wire_len;
static const struct peer_lie no_lie;

/* The bytes from a position on, at most 70000: every stream of data has them. */
static const unsigned char *bytes_at(uint32_t position) {
  static unsigned char pattern[65536 + 70000];
  uint32_t i;
  if (!pattern[1])
    for (i = 0; i < sizeof(pattern); i++)
      pattern[i] = (unsigned char)((i & 65535) * 7 + (i & 65535) / 251);
  return pattern + (position & 65535);
}

static void deliver(size_t most) {
  size_t n = wire_len < most ? wire_len : most;
  if (!n)
    return; /* that would be the end of the stream */
  hussh_feed(levels[0].link, wire, n);
  memmove(wire, wire + n, wire_len - n);
  wire_len -= n;
}

static void pump(void) {
  if (wire_len)
    deliver(wire_len);
  hussh_pump(levels[0].link, 1 << 20);
}

/* Puts bytes of the stream of a level on the wire, through the levels below. */
static void put_stream(unsigned at, const unsigned char *bytes, size_t len) {
  static unsigned char packets[LEVELS][PEER_PACKET];
  static unsigned char message[LEVELS][MAX_PACKET + 9];
  if (!at) {
    if (len <= sizeof(wire) - wire_len)
      memcpy(wire + wire_len, bytes, len);
    else
      honest = 0, len = 0;
    wire_len += len;
    return;
  }
  while (len) {
    size_t n = len < MAX_PACKET ? len : MAX_PACKET, size;
    struct level *below = &levels[at - 1];
    message[at][0] = MSG_CHANNEL_DATA;
    put_u32(put_u32(message[at] + 1, below->channel->local_id), (uint32_t)n);
    memcpy(message[at] + 9, bytes, n);
    size = peer_seal(&below->to_us, message[at], n + 9, &no_lie, packets[at]);
    put_stream(at - 1, packets[at], size);
    bytes += n;
    len -= n;
  }
}

static void say_sealed(unsigned at, const void *message, size_t len, const struct peer_lie *lie) {
  static unsigned char packet[PEER_PACKET];
  size_t size;
  if (honest && (wire_len > WINDOW / 4 || len > 4096))
    pump(); /* the windows of the levels below bear no more at once */
  size = peer_seal(&levels[at].to_us, message, len, lie, packet);
  put_stream(at, packet, size);
}

/* What hussh has sent, decrypted level by level. */
static void hear_all(void) {
  static unsigned char payload[PEER_PACKET];
  unsigned at;
  for (at = 0; at < depth && !deaf; at++) {
    struct level *level = &levels[at];
    size_t used = 0, n, len;
    if (!at)
      level->heard_len += hussh_drain(level->link, level->heard + level->heard_len,
                                      PEER_BYTES - level->heard_len);
    while ((n = peer_open(&level->from_us, level->heard + used, level->heard_len - used, payload,
                          &len))) {
      CHECK(n != PEER_BAD);
      used += n;
      if (payload[0] != MSG_CHANNEL_DATA || get_u32(payload + 1) != level->channel->remote_id)
        continue;
      CHECK(len >= 9 && get_u32(payload + 5) == len - 9);
      if (at + 1 < depth) {
        struct level *above = &levels[at + 1];
        CHECK(above->heard_len + len - 9 <= 2 * PEER_BYTES);
        memcpy(above->heard + above->heard_len, payload + 9, len - 9);
        above->heard_len += len - 9;
      } else {
        CHECK(!memcmp(payload + 9, bytes_at(level->seen), len - 9));
        level->seen += (uint32_t)len - 9;
        CHECK(level->seen <= level->written);
      }
    }
    memmove(level->heard, level->heard + used, level->heard_len - used);
    level->heard_len -= used;
  }
}

static void take_lie(struct input *in, struct peer_lie *lie) {
  static const int lengths[] = {1, -1, 4, 8, -8, 16, -16, 255, 32768, 262144, 1 << 30, INT32_MAX, INT32_MIN};
  unsigned what = take(in);
  memset(lie, 0, sizeof(*lie));
  if (what & 1)
    lie->length = lengths[take(in) % (sizeof(lengths) / sizeof(*lengths))];
  if (what & 2) {
    lie->has_padding = 1;
    lie->padding = (int)take(in);
  }
  if (what & 4)
    lie->more = take(in) % 16;
  if (what & 8)
    lie->flip = 1 + take_16(in);
  if (what & 16)
    lie->cut = take(in);
}

/* Opens a channel and confirms it, as an honest server. */
static hussh_channel *open_channel(unsigned at, uint32_t remote) {
  static const unsigned char confirmation = MSG_CHANNEL_OPEN_CONFIRMATION;
  hussh_link *link = levels[at].link;
  hussh_channel *channel = hussh_channel_open(link, "session", 7, NULL, 0, WINDOW);
  unsigned char numbers[16];
  struct message m = {.len = 0};
  CHECK(channel);
  put_u32(put_u32(put_u32(put_u32(numbers, channel->local_id), remote), 64 << 20), MAX_PACKET);
  put(&m, &confirmation, 1);
  put(&m, numbers, sizeof(numbers));
  say_sealed(at, m.bytes, m.len, &no_lie);
  pump();
  CHECK(channel->state == HUSSH_CH_OPEN);
  return channel;
}

static void begin(struct input *in) {
  unsigned at;
  depth = 1 + take(in) % LEVELS;
  honest = 1;
  memory_failed = deaf = 0;
  wire_len = 0;
  fail_in = -1;
  peer_restart_random();
  for (at = 0; at < depth; at++) {
    struct level *level = &levels[at];
    unsigned char *heard = level->heard ? level->heard : malloc(2 * PEER_BYTES);
    unsigned cipher = 1 + take(in) % (peer_cipher_count - 1);
    unsigned mac = 1 + take(in) % (peer_mac_count - 1);
    CHECK(heard);
    memset(level, 0, sizeof(*level));
    level->heard = heard;
    level->link = at ? hussh_link_over_channel(levels[at - 1].channel) : hussh_link_over_memory();
    CHECK(level->link);
    key_both(level->link, &level->to_us, &level->from_us, cipher, mac, (int)take(in) % 3);
    level->channel = open_channel(at, 1000 + at);
  }
  hear_all();
}

static void read_data(struct level *level, uint32_t most) {
  static unsigned char bytes[70000];
  ssize_t n = hussh_channel_read(level->channel, 0, bytes, most % sizeof(bytes));
  CHECK(n >= 0);
  CHECK(!honest || !memcmp(bytes, bytes_at(level->read), (size_t)n));
  level->read += (uint32_t)n;
}

/* Right data for the innermost channel, as far as its window allows. */
static void say_data(uint32_t n) {
  static unsigned char message[MAX_PACKET + 9] = {MSG_CHANNEL_DATA};
  struct level *top = &levels[depth - 1];
  n %= MAX_PACKET;
  pump();
  if (n > top->channel->recv_window)
    n = top->channel->recv_window;
  put_u32(put_u32(message + 1, top->channel->local_id), n);
  memcpy(message + 9, bytes_at(top->said), n);
  top->said += n;
  say_sealed(depth - 1, message, 9 + n, &no_lie);
}

/* What the server says to one channel: its number, and then the rest. */
static void say_to(const hussh_channel *channel, unsigned char type, const void *rest, size_t len) {
  static unsigned char message[MAX_PACKET];
  message[0] = type;
  memcpy(put_u32(message + 1, channel->local_id), rest, len);
  say_sealed(depth - 1, message, 5 + len, &no_lie);
}

/* A command from its request to its close, maybe in a session that was opened beforehand. */
static void run_command(struct input *in) {
  static const unsigned char ended[] = "\0\0\0\013exit-status\0\0\0\0\003";
  static unsigned char numbers[12], data[8 + 4096];
  unsigned how = take(in), err = take(in);
  uint32_t out = take_number(in) % 4096, length, pairs[16];
  size_t len, size, i, heard[2] = {0, 0};
  const void *text = take_text(in, &len);
  unsigned char command[4 + 255];
  hussh_link *link = levels[depth - 1].link;
  hussh_channel_info info;
  hussh_channel *channel = how & 1 ? hussh_channel_spare(link, WINDOW)
                                   : hussh_channel_open(link, "session", 7, NULL, 0, WINDOW);
  if (!channel)
    return;
  length = (uint32_t)(len < 255 ? len : 255);
  memcpy(put_u32(command, length), text, length);
  put_u32(put_u32(put_u32(numbers, 3000), 64 << 20), MAX_PACKET);
  say_to(channel, MSG_CHANNEL_OPEN_CONFIRMATION, numbers, sizeof(numbers));
  pump();
  if (how & 2)
    return; /* nobody takes it: it ends with its link */
  if ((how & 1 && hussh_channel_take(channel)) ||
      hussh_channel_run(channel, command, 4 + (size_t)length, take_number(in))) {
    CHECK(!honest);
    hussh_channel_free(channel);
    return;
  }
  say_to(channel, how & 4 ? MSG_CHANNEL_FAILURE : MSG_CHANNEL_SUCCESS, "", 0);
  memcpy(put_u32(put_u32(data, 1), err), bytes_at(1), err);
  say_to(channel, MSG_CHANNEL_EXTENDED_DATA, data, 8 + err);
  memcpy(put_u32(data, out), bytes_at(2), out);
  say_to(channel, MSG_CHANNEL_DATA, data, 4 + out);
  say_to(channel, MSG_CHANNEL_REQUEST, ended, sizeof(ended) - 1);
  say_to(channel, MSG_CHANNEL_EOF, "", 0);
  if (!(how & 8))
    say_to(channel, MSG_CHANNEL_CLOSE, "", 0);
  pump();
  if (honest) {
    hussh_channel_get_info(channel, &info);
    CHECK(info.eof && info.rx == out && info.rx_err == err && info.exit_status == 3);
    CHECK(info.closed == !(how & 8));
    size = hussh_channel_order(channel, pairs, sizeof(pairs));
    CHECK(size <= sizeof(pairs));
    for (i = 0; i < size / sizeof(*pairs); i++)
      heard[i & 1] += pairs[i];
    CHECK(heard[0] == out && heard[1] == err);
    CHECK(hussh_channel_read(channel, 1, data, sizeof(data)) == (ssize_t)err);
    CHECK(!memcmp(data, bytes_at(1), err));
    CHECK(hussh_channel_read(channel, 0, data, sizeof(data)) == (ssize_t)out);
    CHECK(!memcmp(data, bytes_at(2), out));
  }
  hussh_channel_free(channel);
}

/* A message that is long when it is decompressed. */
static void say_bomb(struct level *level, unsigned at, unsigned size) {
  static const unsigned char zeros[PEER_PACKET / 2];
  if (level->to_us.zips)
    say_sealed(at, zeros, 1000 + (size_t)size * 750, &no_lie);
}

static void step(struct input *in, unsigned op) {
  static struct message m;
  static unsigned char longest[260 << 10];
  unsigned at = op >= OP_MESSAGE && op <= OP_RAW ? take(in) % depth : depth - 1;
  struct level *level = &levels[at];
  struct peer_lie lie = no_lie;
  const void *text;
  size_t len;
  uint32_t n;
  if (op == OP_MESSAGE || (op >= OP_LIE && op <= OP_RAW) || op == OP_CLOSE || op == OP_REPLIES)
    honest = 0;
  switch (op) {
  case OP_DATA:
    say_data(take_number(in));
    break;
  case OP_MESSAGE:
    take_message(in, &m);
    say_sealed(at, m.bytes, m.len, &no_lie);
    break;
  case OP_LIE:
    take_lie(in, &lie);
    take_message(in, &m);
    say_sealed(at, m.bytes, m.len, &lie);
    break;
  case OP_JUNK: /* not what the compressor would have made of it */
    text = take_bytes(in, &len);
    lie.raw = 1;
    say_sealed(at, text, len, &lie);
    break;
  case OP_BOMB:
    say_bomb(level, at, take(in));
    break;
  case OP_RAW:
    text = take_bytes(in, &len);
    put_stream(at, text, len);
    break;
  case OP_PUMP:
    pump();
    break;
  case OP_PIECE:
    deliver(1 + take_16(in));
    hussh_pump(level[0].link->root, take_number(in));
    break;
  case OP_DRAIN:
    hear_all();
    break;
  case OP_WRITE: {
    ssize_t taken;
    n = take_number(in) % 70000;
    taken = hussh_channel_write(level->channel, bytes_at(level->written), n);
    level->written += taken > 0 ? (uint32_t)taken : 0;
    break;
  }
  case OP_READ:
    read_data(level, take_number(in));
    break;
  case OP_REQUEST:
    text = take_text(in, &len);
    hussh_channel_request(level->channel, text, len, (int)(take(in) & 1), bulk,
                          take_number(in) % sizeof(bulk));
    break;
  case OP_SEQNO: /* so that it wraps around soon; both sides count alike while all is read */
    pump();
    hear_all();
    if (honest && !wire_len && !levels[0].link->tx.len && !level->link->rx.len) {
      level->link->session->remote.seqno = level->to_us.seqno = UINT32_MAX - take(in) % 8;
      level->link->keyed_remote = level->to_us.seqno - 100;
    }
    break;
  case OP_REKEY:
    honest = 0; /* nobody answers here: fuzz_kex.c has that */
    hussh_link_rekey(levels[take(in) % depth].link);
    break;
  case OP_LONG:
    honest = 0;
    longest[0] = MSG_IGNORE;
    say_sealed(at, longest, sizeof(longest) - take_16(in), &no_lie);
    break;
  case OP_NO_MEMORY:
    honest = 0;
    memory_failed = 1;
    fail_in = (long)take_16(in) % 500;
    break;
  case OP_EOF:
    hussh_channel_eof(level->channel);
    break;
  case OP_CLOSE:
    hussh_channel_close(level->channel);
    break;
  case OP_OPEN: {
    hussh_channel *channel = hussh_channel_open(level->link, "session", 7, NULL, 0, WINDOW);
    if (channel && take(in) & 1)
      hussh_channel_free(channel); /* the others end with their link */
    break;
  }
  case OP_GLOBAL:
    m.len = 0;
    put(&m, (const unsigned char[]){MSG_GLOBAL_REQUEST}, 1);
    put_fields(in, &m, "tBtn");
    hussh_link_send(level->link, m.bytes, m.len);
    break;
  case OP_REPLIES: { /* what an honest server may say at any time, many times */
    static const unsigned char ask[] = {MSG_GLOBAL_REQUEST, 0, 0, 0, 1, 'x', 1};
    for (n = take(in); n; n--)
      say_sealed(at, ask, sizeof(ask), &no_lie);
    break;
  }
  case OP_LOGIN: /* compression may begin with it, and only with it */
    honest = 0;
    deaf = 1;
    level->link->authenticated ^= 1;
    level->link->session->state ^= LIBSSH2_STATE_AUTHENTICATED;
    break;
  case OP_COMMAND:
    run_command(in);
    break;
  case OP_END_OF_STREAM:
    honest = 0;
    hussh_feed(levels[0].link, "", 0);
    break;
  default:
    break;
  }
}

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv) {
  (void)argc;
  (void)argv;
  CHECK(!libssh2_init(0));
  peer_fix_random();
  return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct input in = {data, size};
  unsigned turns, at;
  begin(&in);
  for (turns = 0; in.left && turns < 200; turns++) {
    step(&in, take(&in) % OPS);
    for (at = 0; at < depth; at++) {
      check_link(levels[at].link, (int)memory_failed);
      CHECK(!honest || !levels[at].link->dead);
    }
  }
  if (honest) {
    struct level *top = &levels[depth - 1];
    pump();
    while (top->channel->rx.len)
      read_data(top, 69999);
    CHECK(top->read == top->said);
    for (turns = 0; turns < 40 && top->seen < top->written; turns++) {
      hear_all();
      pump();
    }
    CHECK(top->seen == top->written);
  }
  fail_in = -1;
  for (at = depth; at-- > 0;) {
    hussh_link_free(levels[at].link);
    peer_way_clear(&levels[at].to_us);
    peer_way_clear(&levels[at].from_us);
  }
  CHECK(!hussh_live());
  return 0;
}
