/* fuzz_kex.c - whole handshakes and re-keyings with a server that can complete them.
 *
 * The server (peer.h) has every key exchange, host key type, cipher, MAC and compression.  An
 * empty input is a handshake that succeeds; each byte of an input makes one message of the
 * server another one, or adds something between two.  Random numbers are the same each time.
 *
 * What must hold: with an honest server every exchange completes, and what hussh sends can be
 * decrypted.  A reply that was changed is never accepted.
 *
 * build: kex_work.c -DBN_mod_exp=fuzz_mod_exp -Dcalloc=test_calloc
 * build: tree.c send.c channel.c channel_signal.c endpoint.c channel_recv.c message_hook.c link.c pump.c crypto/mlkem.c -Dmalloc=test_malloc -Dcalloc=test_calloc -Drealloc=test_realloc
 * build: crypto/aesgcm.c crypto/chachapoly.c stubs.c libssh2 fuzz/peer_packets.c fuzz/peer_hostkeys.c fuzz/peer_kex.c
 */
#include "fuzzing.h"

#include "peer.h"

enum {
  OP_RUN, OP_MESSAGE, OP_REKEY_HERE, OP_REKEY_THERE, OP_CHOOSE, OP_LOGIN, OP_OPEN, OP_WRITE,
  OP_READ, OP_HOLD, OP_SPOIL, OP_RAW, OP_REKEY_AFTER, OP_EXT_INFO, OP_DISCONNECT, OP_KILL,
  OP_LOOK, OP_NO_MEMORY, OP_END_OF_STREAM, OP_LINES, OPS
};

static hussh_link *client;
static hussh_channel *channel;
static struct peer peer;
static struct input in;
static unsigned char wire[PEER_BYTES], heard[PEER_BYTES], *payload;
static size_t wire_len, heard_len;
static int honest, deaf, memory_failed, zip_soon, hold, spoil, bad_reply;
static unsigned piece, preferred;
static hussh_work *held;
static const struct peer_lie no_lie;

static void put_wire(const void *bytes, size_t len) {
  if (len > sizeof(wire) - wire_len) {
    honest = 0;
    return;
  }
  memcpy(wire + wire_len, bytes, len);
  wire_len += len;
}

static void seal(const void *message, size_t len) {
  static unsigned char packet[PEER_PACKET];
  put_wire(packet, peer_seal(&peer.to_us, message, len, &no_lie, packet));
}

/* Whether a reply differs from the right one where the signature says what it is signed with. */
static int is_changed(const struct peer_bytes *right, const struct message *said) {
  size_t name = strlen(peer_hostkeys[peer.choice.hostkey].signature), i, at = 1;
  for (i = 0; i < 2; i++)
    at += 4 + get_u32(right->at + at);
  if (said->len < right->len)
    return 1;
  for (i = 1; i < right->len; i++)
    if (right->at[i] != said->bytes[i] && (i < at || i >= at + 8 + name + 4))
      return 1;
  return 0;
}

/* Says a message as it is, or as the input wants it. */
static void emit(const struct peer_bytes *message) {
  static const unsigned char ignore[] = {MSG_IGNORE, 0, 0, 0, 1, 'x'};
  static struct message m;
  unsigned how = take(&in);
  int is_reply = message->at[0] == 31 || message->at[0] == 33, is_group = 0;
  if (peer_kexes[peer.choice.kex].kind == PEER_GEX)
    is_group = message->at[0] == 31;
  if (how < 230) {
    seal(message->at, message->len);
    return;
  }
  honest = 0;
  m.len = 0;
  put(&m, message->at, message->len);
  if (how < 240) {
    struct input more = {(const unsigned char[]){0xff, 0, 0}, 3};
    unsigned char lie[3] = {(unsigned char)(224 + take(&in) % 32), 0, 0};
    lie[1] = (unsigned char)take(&in);
    lie[2] = (unsigned char)take(&in);
    more.at = lie;
    twist(&more, &m);
    if (is_reply && !is_group)
      bad_reply |= is_changed(message, &m);
    seal(m.bytes, m.len);
  } else if (how < 244) {
    seal(message->at, message->len);
    seal(message->at, message->len);
  } else if (how < 248) {
    bad_reply |= is_reply && !is_group; /* nothing came */
  } else {
    if (how < 252)
      put_fields(&in, (m.len = 0, &m), "r");
    else
      take_message(&in, &m);
    seal(how < 250 ? ignore : m.bytes, how < 250 ? sizeof(ignore) : m.len ? m.len : 1);
    seal(message->at, message->len);
  }
}

static void emit_byte(unsigned type) {
  struct peer_bytes message = {.len = 0};
  peer_put_byte(&message, type);
  emit(&message);
}

static void emit_kexinit(void) {
  struct peer_bytes message;
  if (peer.kexinit_sent)
    return;
  peer.kexinit_sent = 1;
  peer_make_kexinit(&peer, &message);
  emit(&message);
}

static void on_kex_message(const unsigned char *message, size_t len) {
  struct peer_bytes answer;
  if (!peer.kexinit_sent || peer.replied || !peer_answer(&peer, message, len, &answer)) {
    CHECK(!honest);
    return;
  }
  emit(&answer);
  if (!peer.replied)
    return; /* that was the group */
  emit_byte(MSG_NEWKEYS);
  peer.strict |= peer.choice.strict && !peer.to_us.body;
  peer_new_keys(&peer, &peer.to_us);
  if (peer.choice.zip == 2 && client->authenticated)
    peer_way_zip(&peer.to_us);
}

static void on_newkeys(void) {
  CHECK(!bad_reply); /* a changed reply is not accepted */
  if (!peer.replied) {
    deaf = 1;
    CHECK(!honest);
    return;
  }
  peer_new_keys(&peer, &peer.from_us);
  if (peer.choice.zip == 2 && client->authenticated)
    peer_way_zip(&peer.from_us);
  peer.kexinit_sent = peer.replied = 0;
}

static void on_message(const unsigned char *message, size_t len) {
  struct peer_bytes answer = {.len = 0};
  switch (message[0]) {
  case MSG_KEXINIT:
    peer.client_kexinit.len = 0;
    peer_put(&peer.client_kexinit, message, len);
    emit_kexinit();
    break;
  case MSG_NEWKEYS:
    on_newkeys();
    break;
  case MSG_SERVICE_REQUEST:
    peer_put_byte(&answer, MSG_SERVICE_ACCEPT);
    peer_put_text(&answer, "ssh-userauth");
    emit(&answer);
    break;
  case MSG_USERAUTH_REQUEST:
    emit_byte(MSG_USERAUTH_SUCCESS);
    zip_soon = peer.choice.zip == 2;
    break;
  case MSG_CHANNEL_OPEN:
    peer_put_byte(&answer, MSG_CHANNEL_OPEN_CONFIRMATION);
    peer_put(&answer, message + 5 + get_u32(message + 1), 4);
    peer_put_u32(&answer, 0);
    peer_put_u32(&answer, 1 << 30);
    peer_put_u32(&answer, 32768);
    emit(&answer);
    break;
  default:
    if (message[0] >= 30 && message[0] < 50)
      on_kex_message(message, len);
  }
}

/* The client's version is a line, and packets come behind it. */
static size_t hear_version(void) {
  const unsigned char *end = memchr(heard, '\n', heard_len);
  if (!end)
    return 0;
  CHECK(end - heard > 8 && end[-1] == '\r' && !memcmp(heard, "SSH-2.0-", 8));
  peer.client_version.len = 0;
  peer_put(&peer.client_version, heard, (size_t)(end - heard) - 1);
  return (size_t)(end - heard) + 1;
}

static int hear_all(void) {
  size_t used = 0, n, len;
  heard_len += hussh_drain(client, heard + heard_len, sizeof(heard) - heard_len);
  if (!peer.client_version.len)
    used = hear_version();
  while (peer.client_version.len && !deaf &&
         (n = peer_open(&peer.from_us, heard + used, heard_len - used, payload, &len))) {
    if (n == PEER_BAD) {
      CHECK(!honest);
      deaf = 1;
      break;
    }
    used += n;
    on_message(payload, len);
  }
  memmove(heard, heard + used, heard_len - used);
  heard_len = deaf ? 0 : heard_len - used;
  if (zip_soon && used) { /* what was sent before the answer was not compressed */
    peer_way_zip(&peer.from_us);
    peer_way_zip(&peer.to_us);
    zip_soon = 0;
  }
  return used != 0;
}

static void compute(hussh_work *work) {
  unsigned char result[1184] = {9};
  size_t len = 0;
  const void *input = hussh_work_input(work, &len);
  switch (spoil ? 0 : hussh_work_kind(work)) {
  case HUSSH_WORK_POWER:
    hussh_work_run(work);
    len = 0;
    break;
  case HUSSH_WORK_KEM_KEY:
    len = sizeof(result);
    break;
  case HUSSH_WORK_KEM_SECRET:
    peer_kem_secret(input, len, result);
    len = 32;
    break;
  default: /* it failed */
    if (hussh_work_kind(work) == HUSSH_WORK_POWER)
      hussh_work_run(work);
    len = 0;
  }
  hussh_work_finish(work, result, len);
}

/* Both sides talk until neither has anything to say. */
static void run(void) {
  int turns;
  for (turns = 0; turns < 60; turns++) {
    int went = 0;
    size_t n = piece && wire_len > piece ? piece : wire_len;
    if (n) {
      hussh_feed(client, wire, n);
      memmove(wire, wire + n, wire_len - n);
      wire_len -= n;
      went = 1;
    }
    hussh_pump(client, 1 << 20);
    if (held && !hold) {
      hussh_work *work = held;
      held = NULL;
      compute(work);
      went = 1;
    }
    if (!held && (held = hussh_work_take(client)))
      went = 1;
    went |= hear_all();
    if (!went)
      break;
  }
}

static void look(void) {
  size_t len = 0;
  char names[2000];
  int kind = (int)(take(&in) % 12);
  hussh_link_supported(client, kind, names, take_16(&in) % sizeof(names));
  CHECK(!hussh_link_method(client, kind) || strlen(hussh_link_method(client, kind)) < 100);
  hussh_link_banner(client);
  hussh_link_sig_algs(client);
  hussh_link_hostkey(client, &len);
  CHECK(!len || hussh_link_hostkey(client, &len));
  hussh_link_session_id(client, &len);
  CHECK(len <= 64);
  hussh_link_hostkey_signature(client, &len);
  hussh_link_peer_kexinit(client, &len);
  hussh_link_preamble(client, &len);
  CHECK(len <= 256);
}

static void say_ext_info(void) {
  static struct message m;
  m.len = 0;
  put(&m, (const unsigned char[]){MSG_EXT_INFO, 0, 0, 0}, 4);
  put_fields(&in, &m, "btttt");
  seal(m.bytes, m.len);
}

static void step(unsigned op) {
  static struct message m;
  const unsigned char *bytes;
  size_t len;
  if (op == OP_MESSAGE || op >= OP_SPOIL)
    honest = honest && (op == OP_REKEY_AFTER || op == OP_LOOK);
  switch (op) {
  case OP_RUN:
    break;
  case OP_MESSAGE:
    take_message(&in, &m);
    seal(m.bytes, m.len);
    break;
  case OP_REKEY_HERE:
    hussh_link_rekey(client);
    break;
  case OP_REKEY_THERE:
    if (peer.to_us.body)
      emit_kexinit();
    break;
  case OP_CHOOSE: /* for the next exchange; the host key must stay */
    len = take(&in);
    if (peer.kexinit_sent || preferred)
      honest = 0;
    peer.choice.kex = (unsigned)len % peer_kex_count;
    if (len >= 200) {
      honest = 0;
      peer.choice.hostkey = take(&in) % peer_hostkey_count;
      peer.choice.cipher = take(&in) % peer_cipher_count;
    }
    break;
  case OP_LOGIN:
    m.len = 0;
    put(&m, (const unsigned char[]){MSG_USERAUTH_REQUEST}, 1);
    put_fields(&in, &m, "tttBt");
    if (!client->authenticated)
      hussh_link_send(client, m.bytes, m.len);
    break;
  case OP_OPEN:
    if (!channel)
      channel = hussh_channel_open(client, "session", 7, NULL, 0, take_number(&in));
    break;
  case OP_WRITE:
    if (channel)
      hussh_channel_write(channel, bulk, take_number(&in) % sizeof(bulk));
    break;
  case OP_READ:
    if (channel)
      hussh_channel_read(channel, 0, m.bytes, take_number(&in) % sizeof(m.bytes));
    break;
  case OP_HOLD:
    hold = (int)(take(&in) & 1);
    break;
  case OP_SPOIL:
    spoil ^= 1;
    break;
  case OP_RAW:
    bytes = take_bytes(&in, &len);
    put_wire(bytes, len);
    break;
  case OP_REKEY_AFTER:
    hussh_link_rekey_after(client, take_number(&in));
    CHECK(hussh_link_rekey_bytes(client));
    break;
  case OP_EXT_INFO:
    say_ext_info();
    break;
  case OP_DISCONNECT:
    hussh_link_disconnect(client, (int)take(&in), "bye");
    break;
  case OP_KILL:
    hussh_link_kill(client);
    break;
  case OP_LOOK:
    look();
    break;
  case OP_NO_MEMORY:
    memory_failed = 1;
    fail_in = (long)take_16(&in) % 300;
    break;
  case OP_END_OF_STREAM:
    hussh_feed(client, "", 0);
    break;
  default: /* before the version */
    bytes = take_bytes(&in, &len);
    put_wire(bytes, len);
    put_wire("\n", 1);
  }
  if (op != OP_HOLD && op != OP_LOOK)
    run();
}

static void begin(void) {
  unsigned char flags;
  peer_restart_random();
  memset(&peer, 0, sizeof(peer));
  peer_way_clear(&peer.to_us);
  peer_way_clear(&peer.from_us);
  peer.choice.kex = take(&in) % peer_kex_count;
  peer.choice.hostkey = take(&in) % peer_hostkey_count;
  peer.choice.cipher = 1 + take(&in) % (peer_cipher_count - 1);
  peer.choice.mac = 1 + take(&in) % (peer_mac_count - 1);
  flags = (unsigned char)take(&in);
  peer.choice.strict = flags & 1;
  peer.choice.zip = flags >> 1 & 3;
  peer.choice.zip %= 3;
  piece = flags & 8 ? 1 + take(&in) * 4 : 0;
  honest = 1;
  deaf = memory_failed = zip_soon = hold = spoil = bad_reply = 0;
  wire_len = heard_len = 0;
  fail_in = -1;
  held = NULL;
  channel = NULL;
  client = hussh_link_over_memory();
  CHECK(client);
  if (peer.choice.zip)
    CHECK(!hussh_link_compress(client));
  preferred = flags & 16;
  if (preferred)
    hussh_link_prefer(client, LIBSSH2_METHOD_KEX, peer_kexes[peer.choice.kex].name);
  if (flags & 32) /* lines and the rest come first */
    step(take(&in) % OPS);
  put_wire("SSH-2.0-Peer_1\r\n", 16);
}

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv) {
  (void)argc;
  (void)argv;
  CHECK(!libssh2_init(0) && (payload = malloc(PEER_PACKET)));
  peer_fix_random();
  peer_restart_random();
  peer_make_hostkeys();
  return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  int turns, rekeys = -1;
  in.at = data;
  in.left = size;
  begin();
  run();
  for (turns = 0; in.left && turns < 60; turns++) {
    step(take(&in) % OPS);
    check_link(client, memory_failed);
    CHECK(!honest || piece || !client->dead);
  }
  hold = 0;
  in.left = 0; /* the server is honest from now on */
  run();
  if (honest && !piece) { /* the handshake is complete, and one more exchange does */
    if (client->dead)
      fprintf(stderr, "dead: %s\n", client->text);
    CHECK(!client->dead && client->phase >= HUSSH_AUTH && !link_in_kex(client));
    rekeys = client->rekeys;
    CHECK(!hussh_link_rekey(client));
    run();
    if (client->rekeys <= rekeys)
      fprintf(stderr, "honest %d, dead %d, %d exchanges, in one %d: %s\n", honest, client->dead,
              client->rekeys, link_in_kex(client), client->text);
    CHECK(honest && client->rekeys > rekeys && (client->rekey_after || !link_in_kex(client)));
  }
  fail_in = -1;
  if (held && size & 1)
    compute(held);
  else
    size &= ~(size_t)1;
  if (channel)
    hussh_channel_free(channel);
  hussh_link_free(client);
  if (held && !(size & 1))
    compute(held);
  peer_way_clear(&peer.to_us);
  peer_way_clear(&peer.from_us);
  CHECK(!hussh_live());
  return 0;
}
