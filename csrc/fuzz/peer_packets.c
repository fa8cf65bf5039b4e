/* peer_packets.c - the packets of a server (RFC 4253 section 6), under real ciphers and MACs. */
#include "peer.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct peer_cipher peer_ciphers[] = {
    {"none", NULL, 0, 0, 8, PEER_PLAIN},
    {"chacha20-poly1305@openssh.com", "ChaCha20", 64, 0, 8, PEER_CHACHA},
    {"aes256-gcm@openssh.com", "AES-256-GCM", 32, 12, 16, PEER_GCM},
    {"aes128-gcm@openssh.com", "AES-128-GCM", 16, 12, 16, PEER_GCM},
    {"aes256-ctr", "AES-256-CTR", 32, 16, 16, PEER_BLOCKS},
    {"aes192-ctr", "AES-192-CTR", 24, 16, 16, PEER_BLOCKS},
    {"aes128-ctr", "AES-128-CTR", 16, 16, 16, PEER_BLOCKS},
    {"aes256-cbc", "AES-256-CBC", 32, 16, 16, PEER_BLOCKS},
    {"aes192-cbc", "AES-192-CBC", 24, 16, 16, PEER_BLOCKS},
    {"aes128-cbc", "AES-128-CBC", 16, 16, 16, PEER_BLOCKS},
    {"3des-cbc", "DES-EDE3-CBC", 24, 8, 8, PEER_BLOCKS}};

const struct peer_mac peer_macs[] = {
    {"none", NULL, 0, 0, 0},
    {"hmac-sha2-256", "SHA256", 32, 32, 0},
    {"hmac-sha2-512", "SHA512", 64, 64, 0},
    {"hmac-sha1", "SHA1", 20, 20, 0},
    {"hmac-sha1-96", "SHA1", 20, 12, 0},
    {"hmac-sha2-256-etm@openssh.com", "SHA256", 32, 32, 1},
    {"hmac-sha2-512-etm@openssh.com", "SHA512", 64, 64, 1},
    {"hmac-sha1-etm@openssh.com", "SHA1", 20, 20, 1}};

const unsigned peer_cipher_count = sizeof(peer_ciphers) / sizeof(*peer_ciphers);
const unsigned peer_mac_count = sizeof(peer_macs) / sizeof(*peer_macs);

static void put_32(unsigned char *to, uint32_t value) {
  to[0] = (unsigned char)(value >> 24);
  to[1] = (unsigned char)(value >> 16);
  to[2] = (unsigned char)(value >> 8);
  to[3] = (unsigned char)value;
}

static uint32_t get_32(const unsigned char *from) {
  return (uint32_t)from[0] << 24 | (uint32_t)from[1] << 16 | (uint32_t)from[2] << 8 | from[3];
}

/* ---- a direction ---------------------------------------------------------- */

static EVP_CIPHER_CTX *new_cipher(const char *name, const unsigned char *key,
                                  const unsigned char *iv, int encrypts) {
  EVP_CIPHER *cipher = EVP_CIPHER_fetch(NULL, name, NULL);
  EVP_CIPHER_CTX *made = EVP_CIPHER_CTX_new();
  MUST(cipher && made && EVP_CipherInit_ex2(made, cipher, key, iv, encrypts, NULL));
  EVP_CIPHER_CTX_set_padding(made, 0);
  EVP_CIPHER_free(cipher);
  return made;
}

void peer_way_set(struct peer_way *way, unsigned cipher, unsigned mac, const unsigned char *key,
                  const unsigned char *iv, const unsigned char *mac_key, int encrypts) {
  static const unsigned char zeros[16];
  const struct peer_cipher *kind = &peer_ciphers[cipher];
  EVP_CIPHER_CTX_free(way->body);
  EVP_CIPHER_CTX_free(way->head);
  way->body = way->head = NULL;
  if (way->zips) /* new keys, a new stream (RFC 4253 section 7.3) */
    (void)(way->encrypts ? deflateEnd(&way->zip) : inflateEnd(&way->zip));
  way->zips = 0;
  way->cipher = kind;
  way->mac = &peer_macs[kind->kind == PEER_BLOCKS ? mac : 0];
  way->encrypts = encrypts;
  memcpy(way->iv, iv, (size_t)kind->iv);
  memcpy(way->mac_key, mac_key, (size_t)way->mac->key);
  if (kind->kind == PEER_BLOCKS)
    way->body = new_cipher(kind->evp, key, iv, encrypts);
  if (kind->kind == PEER_GCM)
    way->body = new_cipher(kind->evp, key, NULL, encrypts);
  if (kind->kind == PEER_CHACHA) {
    way->body = new_cipher(kind->evp, key, zeros, 1);
    way->head = new_cipher(kind->evp, key + 32, zeros, 1);
  }
}

void peer_way_zip(struct peer_way *way) {
  if (way->zips)
    return;
  memset(&way->zip, 0, sizeof(way->zip));
  MUST((way->encrypts ? deflateInit(&way->zip, 1) : inflateInit(&way->zip)) == Z_OK);
  way->zips = 1;
}

void peer_way_clear(struct peer_way *way) {
  EVP_CIPHER_CTX_free(way->body);
  EVP_CIPHER_CTX_free(way->head);
  if (way->zips)
    (void)(way->encrypts ? deflateEnd(&way->zip) : inflateEnd(&way->zip));
  memset(way, 0, sizeof(*way));
  way->cipher = &peer_ciphers[0];
  way->mac = &peer_macs[0];
}

/* ---- integrity ------------------------------------------------------------ */

static void mac_of(const struct peer_way *way, const unsigned char *bytes, size_t len,
                   unsigned char mac[64]) {
  static unsigned char numbered[PEER_PACKET + 4];
  unsigned size = 64;
  put_32(numbered, way->seqno);
  memcpy(numbered + 4, bytes, len);
  MUST(HMAC(EVP_get_digestbyname(way->mac->digest), way->mac_key, way->mac->key, numbered,
            len + 4, mac, &size));
}

static void chacha_at(EVP_CIPHER_CTX *cipher, uint32_t seqno, unsigned block,
                      unsigned char *bytes, size_t len) {
  unsigned char iv[16] = {0};
  int done;
  iv[0] = (unsigned char)block;
  put_32(iv + 12, seqno);
  MUST(EVP_CipherInit_ex2(cipher, NULL, NULL, iv, 1, NULL) &&
       EVP_CipherUpdate(cipher, bytes, &done, bytes, (int)len));
}

static void poly_of(const struct peer_way *way, const unsigned char *bytes, size_t len,
                    unsigned char tag[16]) {
  static EVP_MAC *poly;
  unsigned char key[32] = {0};
  EVP_MAC_CTX *context;
  size_t size;
  if (!poly)
    poly = EVP_MAC_fetch(NULL, "POLY1305", NULL);
  chacha_at(way->body, way->seqno, 0, key, sizeof(key));
  context = EVP_MAC_CTX_new(poly);
  MUST(context && EVP_MAC_init(context, key, sizeof(key), NULL) &&
       EVP_MAC_update(context, bytes, len) && EVP_MAC_final(context, tag, &size, 16));
  EVP_MAC_CTX_free(context);
}

/* AES-GCM over a packet; the tag is behind it.  Returns 0 if the tag is wrong. */
static int gcm(struct peer_way *way, unsigned char *packet, size_t len) {
  int done, i = 12;
  MUST(EVP_CipherInit_ex2(way->body, NULL, NULL, way->iv, -1, NULL));
  while (i > 4 && ++way->iv[--i] == 0)
    ;
  if (!way->encrypts)
    MUST(EVP_CIPHER_CTX_ctrl(way->body, EVP_CTRL_AEAD_SET_TAG, 16, packet + len));
  MUST(EVP_CipherUpdate(way->body, NULL, &done, packet, 4) &&
       EVP_CipherUpdate(way->body, packet + 4, &done, packet + 4, (int)len - 4));
  if (!EVP_CipherFinal_ex(way->body, packet + len, &done))
    return 0;
  if (way->encrypts)
    MUST(EVP_CIPHER_CTX_ctrl(way->body, EVP_CTRL_AEAD_GET_TAG, 16, packet + len));
  return 1;
}

/* ---- sending -------------------------------------------------------------- */

static size_t deflated(struct peer_way *way, const unsigned char *from, size_t len,
                       unsigned char *to) {
  way->zip.next_in = (unsigned char *)from;
  way->zip.avail_in = (uInt)len;
  way->zip.next_out = to;
  way->zip.avail_out = PEER_PACKET - 1024;
  MUST(deflate(&way->zip, Z_PARTIAL_FLUSH) == Z_OK && way->zip.avail_out);
  return PEER_PACKET - 1024 - way->zip.avail_out;
}

/* Encrypts a packet and appends what protects it; returns the length of both. */
static size_t protect(struct peer_way *way, unsigned char *packet, size_t len) {
  int done;
  switch (way->cipher->kind) {
  case PEER_GCM:
    gcm(way, packet, len);
    return len + 16;
  case PEER_CHACHA:
    chacha_at(way->head, way->seqno, 0, packet, 4);
    chacha_at(way->body, way->seqno, 1, packet + 4, len - 4);
    poly_of(way, packet, len, packet + len);
    return len + 16;
  case PEER_BLOCKS:
    if (!way->mac->etm && way->mac->digest)
      mac_of(way, packet, len, packet + len);
    done = way->mac->etm ? 4 : 0;
    MUST(EVP_CipherUpdate(way->body, packet + done, &done, packet + done, (int)len - done));
    if (way->mac->etm)
      mac_of(way, packet, len, packet + len);
    return len + (size_t)way->mac->len;
  default:
    return len;
  }
}

size_t peer_seal(struct peer_way *way, const void *payload, size_t len,
                 const struct peer_lie *lie, unsigned char *packet) {
  size_t block = (size_t)way->cipher->block, apart, padding;
  if (way->zips && !lie->raw)
    len = deflated(way, payload, len, packet + 5);
  else
    memcpy(packet + 5, payload, len);
  /* the length field is no part of the blocks where it is not encrypted with them */
  apart = way->mac->etm || way->cipher->kind == PEER_GCM || way->cipher->kind == PEER_CHACHA ? 4 : 0;
  padding = block - (5 + len - apart) % block;
  if (padding < 4)
    padding += block;
  padding += lie->more * block;
  memset(packet + 5 + len, 0x5a, padding);
  put_32(packet, (uint32_t)(1 + len + padding + (size_t)(ptrdiff_t)lie->length));
  packet[4] = (unsigned char)(lie->has_padding ? lie->padding : (int)padding);
  len = protect(way, packet, 5 + len + padding);
  if (lie->flip)
    packet[(lie->flip - 1) / 8 % len] ^= (unsigned char)(1 << (lie->flip - 1) % 8);
  way->seqno++;
  return lie->cut < len ? len - lie->cut : 0;
}

/* ---- receiving ------------------------------------------------------------ */

/* Returns the length, or BAD. */
static size_t inflated(struct peer_way *way, const unsigned char *from, size_t len,
                       unsigned char *to) {
  way->zip.next_in = (unsigned char *)from;
  way->zip.avail_in = (uInt)len;
  way->zip.next_out = to;
  way->zip.avail_out = PEER_PACKET;
  if (inflate(&way->zip, Z_PARTIAL_FLUSH) != Z_OK || !way->zip.avail_out || way->zip.avail_in)
    return PEER_BAD;
  return PEER_PACKET - way->zip.avail_out;
}

/* The length field of the next packet; the state of the cipher stays. */
static uint32_t length_of(const struct peer_way *way, const unsigned char *stream) {
  unsigned char first[16];
  EVP_CIPHER_CTX *copy;
  uint32_t length;
  int done;
  if (way->cipher->kind == PEER_CHACHA) {
    memcpy(first, stream, 4);
    chacha_at(way->head, way->seqno, 0, first, 4);
    return get_32(first);
  }
  if (way->cipher->kind != PEER_BLOCKS || way->mac->etm)
    return get_32(stream);
  copy = EVP_CIPHER_CTX_new();
  MUST(copy && EVP_CIPHER_CTX_copy(copy, way->body) &&
       EVP_CipherUpdate(copy, first, &done, stream, way->cipher->block));
  length = get_32(first);
  EVP_CIPHER_CTX_free(copy);
  return length;
}

/* Decrypts a packet in place; 0: what protects it is wrong. */
static int unprotect(struct peer_way *way, unsigned char *packet, size_t size, size_t after) {
  unsigned char mac[64];
  int done = way->mac->etm ? 4 : 0;
  switch (way->cipher->kind) {
  case PEER_GCM:
    return gcm(way, packet, size);
  case PEER_CHACHA:
    poly_of(way, packet, size, mac);
    chacha_at(way->body, way->seqno, 1, packet + 4, size - 4);
    return !memcmp(mac, packet + size, 16);
  case PEER_BLOCKS:
    if (way->mac->etm)
      mac_of(way, packet, size, mac);
    MUST(EVP_CipherUpdate(way->body, packet + done, &done, packet + done, (int)size - done));
    if (!way->mac->etm && way->mac->digest)
      mac_of(way, packet, size, mac);
    return !way->mac->digest || !memcmp(mac, packet + size, after);
  default:
    return 1;
  }
}

size_t peer_open(struct peer_way *way, const unsigned char *stream, size_t left,
                 unsigned char *payload, size_t *len) {
  static unsigned char packet[PEER_PACKET];
  size_t after, total;
  uint32_t length;
  if (left < 16)
    return 0;
  length = length_of(way, stream);
  after = way->cipher->kind == PEER_GCM || way->cipher->kind == PEER_CHACHA
              ? 16
              : (size_t)way->mac->len;
  if (length < 5 || length > PEER_PACKET - 100)
    return PEER_BAD;
  total = 4 + length + after;
  if (left < total)
    return 0;
  memcpy(packet, stream, total);
  if (!unprotect(way, packet, 4 + length, after) || packet[4] < 4 || packet[4] >= length)
    return PEER_BAD;
  *len = length - packet[4] - 1;
  if (way->zips)
    *len = inflated(way, packet + 5, *len, payload);
  else
    memcpy(payload, packet + 5, *len);
  way->seqno++;
  return *len == PEER_BAD ? PEER_BAD : total;
}

/* ---- random numbers ------------------------------------------------------- */

static uint64_t random_state;

static int fixed_bytes(unsigned char *bytes, int len) {
  while (len-- > 0) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    *bytes++ = (unsigned char)(random_state >> 56);
  }
  return 1;
}

static int fixed_status(void) {
  return 1;
}

void peer_restart_random(void) {
  random_state = 20240607;
}

#pragma GCC diagnostic ignored "-Wdeprecated-declarations" /* OpenSSL 3 has no simpler way */

void peer_fix_random(void) {
  static RAND_METHOD method;
  method.bytes = method.pseudorand = fixed_bytes;
  method.status = fixed_status;
  MUST(RAND_set_rand_method(&method));
}
