/* peer_kex.c - the server's half of every key exchange (RFC 4253, 4419, 5656, 8731), and its keys.
 *
 * The numbers that a server would choose at random are the same each time.  kex_work.c is built
 * with fuzz_mod_exp for BN_mod_exp: multiplication commutes as exponentiation does, both
 * sides agree as well, and a group of 8192 bits costs microseconds.
 */
#include "peer.h"

#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/obj_mac.h>
#include <string.h>

#include "link.h"

const struct peer_kex peer_kexes[] = {
    {"curve25519-sha256", "SHA256", PEER_X25519, 0},
    {"curve25519-sha256@libssh.org", "SHA256", PEER_X25519, 0},
    {"ecdh-sha2-nistp256", "SHA256", PEER_NIST, NID_X9_62_prime256v1},
    {"ecdh-sha2-nistp384", "SHA384", PEER_NIST, NID_secp384r1},
    {"ecdh-sha2-nistp521", "SHA512", PEER_NIST, NID_secp521r1},
    {"mlkem768x25519-sha256", "SHA256", PEER_MLKEM, 0},
    {"diffie-hellman-group1-sha1", "SHA1", PEER_GROUP, 1024},
    {"diffie-hellman-group14-sha1", "SHA1", PEER_GROUP, 2048},
    {"diffie-hellman-group14-sha256", "SHA256", PEER_GROUP, 2048},
    {"diffie-hellman-group16-sha512", "SHA512", PEER_GROUP, 4096},
    {"diffie-hellman-group18-sha512", "SHA512", PEER_GROUP, 8192},
    {"diffie-hellman-group-exchange-sha1", "SHA1", PEER_GEX, 2048},
    {"diffie-hellman-group-exchange-sha256", "SHA256", PEER_GEX, 4096}};

const unsigned peer_kex_count = sizeof(peer_kexes) / sizeof(*peer_kexes);

int fuzz_mod_exp(BIGNUM *result, const BIGNUM *base, const BIGNUM *exponent,
                 const BIGNUM *modulus, BN_CTX *context);

int fuzz_mod_exp(BIGNUM *result, const BIGNUM *base, const BIGNUM *exponent,
                 const BIGNUM *modulus, BN_CTX *context) {
  return BN_mod_mul(result, base, exponent, modulus, context);
}

/* ---- what messages are made of -------------------------------------------- */

void peer_put(struct peer_bytes *to, const void *bytes, size_t len) {
  MUST(to->len + len <= sizeof(to->at));
  if (len)
    memcpy(to->at + to->len, bytes, len);
  to->len += len;
}

void peer_put_byte(struct peer_bytes *to, unsigned byte) {
  unsigned char one = (unsigned char)byte;
  peer_put(to, &one, 1);
}

void peer_put_u32(struct peer_bytes *to, uint32_t number) {
  int i;
  for (i = 24; i >= 0; i -= 8)
    peer_put_byte(to, number >> i & 255);
}

void peer_put_string(struct peer_bytes *to, const void *bytes, size_t len) {
  peer_put_u32(to, (uint32_t)len);
  peer_put(to, bytes, len);
}

void peer_put_text(struct peer_bytes *to, const char *text) {
  peer_put_string(to, text, strlen(text));
}

void peer_put_mpint(struct peer_bytes *to, const unsigned char *number, size_t len) {
  while (len && !*number) {
    number++;
    len--;
  }
  peer_put_u32(to, (uint32_t)(len + (len && number[0] & 0x80)));
  if (len && number[0] & 0x80)
    peer_put_byte(to, 0);
  peer_put(to, number, len);
}

static void put_number(struct peer_bytes *to, const BIGNUM *number) {
  unsigned char bytes[1100];
  peer_put_mpint(to, bytes, (size_t)BN_bn2bin(number, bytes));
}

/* The string at an offset; 0: there is none. */
static int string_at(const unsigned char *message, size_t len, size_t at,
                     const unsigned char **string, size_t *size) {
  if (len < at + 4)
    return 0;
  *size = (size_t)message[at] << 24 | (size_t)message[at + 1] << 16 |
          (size_t)message[at + 2] << 8 | message[at + 3];
  *string = message + at + 4;
  return *size <= len - at - 4;
}

/* ---- KEXINIT -------------------------------------------------------------- */

void peer_make_kexinit(struct peer *peer, struct peer_bytes *message) {
  static const char *const zips[] = {"none", "zlib", "zlib@openssh.com"};
  const struct peer_choice *choice = &peer->choice;
  char kex[200];
  unsigned i;
  snprintf(kex, sizeof(kex), "%s%s", peer_kexes[choice->kex].name,
           choice->strict ? ",kex-strict-s-v00@openssh.com" : "");
  message->len = 0;
  peer_put_byte(message, 20);
  for (i = 0; i < 16; i++)
    peer_put_byte(message, i);
  peer_put_text(message, kex);
  peer_put_text(message, peer_hostkeys[choice->hostkey].name);
  for (i = 0; i < 2; i++)
    peer_put_text(message, peer_ciphers[choice->cipher].name);
  for (i = 0; i < 2; i++)
    peer_put_text(message, peer_macs[choice->mac].name);
  for (i = 0; i < 2; i++)
    peer_put_text(message, zips[choice->zip]);
  for (i = 0; i < 2; i++)
    peer_put_text(message, "");
  peer_put_byte(message, 0);
  peer_put_u32(message, 0);
  peer->kexinit = *message;
}

/* ---- the shared secret ---------------------------------------------------- */

static int agree_x25519(const unsigned char *theirs, size_t len, unsigned char ours[32],
                        unsigned char secret[32]) {
  static const unsigned char private[32] = {8, 1, 2, 3, [31] = 64};
  EVP_PKEY *key = EVP_PKEY_new_raw_private_key(EVP_PKEY_X25519, NULL, private, 32), *other;
  EVP_PKEY_CTX *context;
  size_t size = 32;
  int good;
  MUST(key && EVP_PKEY_get_raw_public_key(key, ours, &size));
  other = len != 32 ? NULL : EVP_PKEY_new_raw_public_key(EVP_PKEY_X25519, NULL, theirs, 32);
  context = EVP_PKEY_CTX_new(key, NULL);
  good = other && EVP_PKEY_derive_init(context) > 0 && EVP_PKEY_derive_set_peer(context, other) > 0 &&
         EVP_PKEY_derive(context, secret, &size) > 0;
  EVP_PKEY_CTX_free(context);
  EVP_PKEY_free(other);
  EVP_PKEY_free(key);
  return good;
}

static size_t agree_nist(int curve, const unsigned char *theirs, size_t len, unsigned char *ours,
                         struct peer_bytes *secret) {
  EC_GROUP *group = EC_GROUP_new_by_curve_name(curve);
  EC_POINT *point = EC_POINT_new(group), *other = EC_POINT_new(group);
  BIGNUM *private = BN_new(), *x = BN_new();
  size_t size;
  BN_set_word(private, 1234567);
  size = 0;
  if (EC_POINT_oct2point(group, other, theirs, len, NULL)) {
    MUST(EC_POINT_mul(group, point, private, NULL, NULL, NULL));
    size = EC_POINT_point2oct(group, point, POINT_CONVERSION_UNCOMPRESSED, ours, 200, NULL);
    MUST(EC_POINT_mul(group, point, NULL, other, private, NULL) &&
         EC_POINT_get_affine_coordinates(group, point, x, NULL, NULL));
    put_number(secret, x);
  }
  BN_free(private);
  BN_free(x);
  EC_POINT_free(point);
  EC_POINT_free(other);
  EC_GROUP_free(group);
  return size;
}

static BIGNUM *prime_of(int bits) {
  return bits == 1024   ? BN_get_rfc2409_prime_1024(NULL)
         : bits == 2048 ? BN_get_rfc3526_prime_2048(NULL)
         : bits == 4096 ? BN_get_rfc3526_prime_4096(NULL)
                        : BN_get_rfc3526_prime_8192(NULL);
}

static void agree_group(int bits, const unsigned char *theirs, size_t len, struct peer_bytes *ours,
                        struct peer_bytes *secret) {
  BIGNUM *prime = prime_of(bits), *e = BN_bin2bn(theirs, (int)len, NULL), *y = BN_new();
  BIGNUM *f = BN_new(), *k = BN_new();
  BN_CTX *context = BN_CTX_new();
  BN_set_word(y, 0x123456789abcdef);
  BN_set_word(f, 2);
  MUST(fuzz_mod_exp(k, e, y, prime, context) && fuzz_mod_exp(f, f, y, prime, context));
  put_number(ours, f);
  put_number(secret, k);
  BN_CTX_free(context);
  BN_free(prime);
  BN_free(e);
  BN_free(y);
  BN_free(f);
  BN_free(k);
}

void peer_kem_secret(const unsigned char *ciphertext, size_t len, unsigned char secret[32]) {
  size_t size;
  MUST(EVP_Q_digest(NULL, "SHA256", NULL, ciphertext, len, secret, &size));
}

/* The ciphertext and its secret. */
static void encapsulate(const unsigned char *key, unsigned char *ciphertext,
                        unsigned char *secret) {
  EVP_PKEY *peer;
  EVP_PKEY_CTX *context;
  size_t len = 1088, secret_len = 32;
  if (!hussh_kem_in_c()) { /* then the harness does the computing */
    memset(ciphertext, 5, len);
    peer_kem_secret(ciphertext, len, secret);
    return;
  }
  peer = EVP_PKEY_new_raw_public_key_ex(NULL, "ML-KEM-768", NULL, key, 1184);
  context = EVP_PKEY_CTX_new_from_pkey(NULL, peer, NULL);
  MUST(context && EVP_PKEY_encapsulate_init(context, NULL) > 0 &&
       EVP_PKEY_encapsulate(context, ciphertext, &len, secret, &secret_len) > 0);
  EVP_PKEY_CTX_free(context);
  EVP_PKEY_free(peer);
}

/* Our value as it stands in the reply, and K as it is hashed; 0: theirs is for another exchange. */
static int agree(struct peer *peer, const unsigned char *theirs, size_t len,
                 struct peer_bytes *ours) {
  const struct peer_kex *kex = &peer_kexes[peer->choice.kex];
  unsigned char both[64], secret[32], public[1200];
  size_t size;
  peer->secret.len = ours->len = 0;
  switch (kex->kind) {
  case PEER_X25519:
    if (!agree_x25519(theirs, len, public, secret))
      return 0;
    peer_put_string(ours, public, 32);
    peer_put_mpint(&peer->secret, secret, 32);
    return 1;
  case PEER_NIST:
    size = agree_nist(kex->parameter, theirs, len, public, &peer->secret);
    peer_put_string(ours, public, size);
    return size != 0;
  case PEER_MLKEM:
    if (len != 1184 + 32)
      return 0;
    encapsulate(theirs, public, both);
    if (!agree_x25519(theirs + 1184, 32, public + 1088, both + 32))
      return 0;
    peer_put_string(ours, public, 1088 + 32);
    MUST(EVP_Q_digest(NULL, "SHA256", NULL, both, sizeof(both), secret, &size));
    peer_put_string(&peer->secret, secret, 32);
    return 1;
  default:
    agree_group(kex->parameter, theirs, len, ours, &peer->secret);
    return 1;
  }
}

/* ---- the reply ------------------------------------------------------------ */

static void hash_of(struct peer *peer, const struct peer_bytes *blob, const unsigned char *theirs,
                    size_t len, const struct peer_bytes *ours) {
  static unsigned char text[64 << 10];
  static const char version[] = "SSH-2.0-Peer_1";
  struct peer_bytes head = {.len = 0}, number = {.len = 0};
  size_t size = 0, i;
  const struct peer_bytes *strings[] = {&peer->client_version, NULL, &peer->client_kexinit,
                                        &peer->kexinit, blob};
  for (i = 0; i < 5; i++) {
    head.len = 0;
    if (strings[i])
      peer_put_string(&head, strings[i]->at, strings[i]->len);
    else
      peer_put_text(&head, version);
    memcpy(text + size, head.at, head.len);
    size += head.len;
  }
  memcpy(text + size, peer->group.at, peer->group.len);
  size += peer->group.len;
  peer_put_string(&number, theirs, len); /* an mpint that hussh has written is a string, too */
  memcpy(text + size, number.at, number.len);
  size += number.len;
  memcpy(text + size, ours->at, ours->len);
  size += ours->len;
  memcpy(text + size, peer->secret.at, peer->secret.len);
  size += peer->secret.len;
  MUST(EVP_Q_digest(NULL, peer_kexes[peer->choice.kex].digest, NULL, text, size, peer->hash,
                    &peer->hash_len));
  if (!peer->session_id_len) {
    memcpy(peer->session_id, peer->hash, peer->hash_len);
    peer->session_id_len = peer->hash_len;
  }
}

static void make_group(struct peer *peer, const unsigned char *request, struct peer_bytes *answer) {
  BIGNUM *prime = prime_of(peer_kexes[peer->choice.kex].parameter), *two = BN_new();
  BN_set_word(two, 2);
  answer->len = peer->group.len = 0;
  peer_put_byte(answer, 31);
  put_number(answer, prime);
  put_number(answer, two);
  peer_put(&peer->group, request + 1, 12);
  peer_put(&peer->group, answer->at + 1, answer->len - 1);
  BN_free(prime);
  BN_free(two);
}

int peer_answer(struct peer *peer, const unsigned char *message, size_t len,
                struct peer_bytes *answer) {
  const struct peer_hostkey *hostkey = &peer_hostkeys[peer->choice.hostkey];
  int is_gex = peer_kexes[peer->choice.kex].kind == PEER_GEX;
  struct peer_bytes blob, signature, ours;
  const unsigned char *theirs;
  size_t size;
  if (is_gex && message[0] == 34 && len == 13) {
    make_group(peer, message, answer);
    return 1;
  }
  if (message[0] != (is_gex ? 32 : 30) || !string_at(message, len, 1, &theirs, &size))
    return 0;
  if (!is_gex)
    peer->group.len = 0;
  if (!agree(peer, theirs, size, &ours))
    return 0;
  peer_hostkey_blob(hostkey, &blob);
  hash_of(peer, &blob, theirs, size, &ours);
  peer_sign(hostkey, peer->hash, peer->hash_len, &signature);
  answer->len = 0;
  peer_put_byte(answer, is_gex ? 33 : 31);
  peer_put_string(answer, blob.at, blob.len);
  peer_put(answer, ours.at, ours.len);
  peer_put_string(answer, signature.at, signature.len);
  peer->replied = 1;
  return 1;
}

/* ---- the keys (RFC 4253 section 7.2) -------------------------------------- */

static void derive(const struct peer *peer, char letter, unsigned char key[128]) {
  unsigned char text[4096];
  const char *digest = peer_kexes[peer->choice.kex].digest;
  size_t head = peer->secret.len + peer->hash_len, len = head, have = 0, size;
  memcpy(text, peer->secret.at, peer->secret.len);
  memcpy(text + peer->secret.len, peer->hash, peer->hash_len);
  text[len++] = (unsigned char)letter;
  memcpy(text + len, peer->session_id, peer->session_id_len);
  len += peer->session_id_len;
  while (have < 64) {
    MUST(EVP_Q_digest(NULL, digest, NULL, text, len, key + have, &size));
    memcpy(text + head + have, key + have, size);
    have += size;
    len = head + have;
  }
}

void peer_new_keys(struct peer *peer, struct peer_way *way) {
  int to_us = way == &peer->to_us;
  unsigned char key[128], iv[128], mac_key[128];
  derive(peer, to_us ? 'B' : 'A', iv);
  derive(peer, to_us ? 'D' : 'C', key);
  derive(peer, to_us ? 'F' : 'E', mac_key);
  peer_way_set(way, peer->choice.cipher, peer->choice.mac, key, iv, mac_key, to_us);
  if (peer->strict)
    way->seqno = 0;
  if (peer->choice.zip == 1)
    peer_way_zip(way);
}
