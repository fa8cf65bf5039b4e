/* peer_hostkeys.c - host keys of every type that hussh knows, their certificates and signatures. */
#include "peer.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <string.h>

#define ED25519 0
#define P256 1
#define P384 2
#define P521 3
#define RSA_KEY 4
#define CERT "-cert-v01@openssh.com"

const struct peer_hostkey peer_hostkeys[] = {
    {"ssh-ed25519", "ssh-ed25519", NULL, "ssh-ed25519", NULL, ED25519, 0},
    {"ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256", "SHA256", "ecdsa-sha2-nistp256", "nistp256", P256, 0},
    {"ecdsa-sha2-nistp384", "ecdsa-sha2-nistp384", "SHA384", "ecdsa-sha2-nistp384", "nistp384", P384, 0},
    {"ecdsa-sha2-nistp521", "ecdsa-sha2-nistp521", "SHA512", "ecdsa-sha2-nistp521", "nistp521", P521, 0},
    {"rsa-sha2-512", "rsa-sha2-512", "SHA512", "ssh-rsa", NULL, RSA_KEY, 0},
    {"rsa-sha2-256", "rsa-sha2-256", "SHA256", "ssh-rsa", NULL, RSA_KEY, 0},
    {"ssh-rsa", "ssh-rsa", "SHA1", "ssh-rsa", NULL, RSA_KEY, 0},
    {"ssh-ed25519" CERT, "ssh-ed25519", NULL, "ssh-ed25519" CERT, NULL, ED25519, 1},
    {"ecdsa-sha2-nistp256" CERT, "ecdsa-sha2-nistp256", "SHA256", "ecdsa-sha2-nistp256" CERT, "nistp256", P256, 1},
    {"ecdsa-sha2-nistp384" CERT, "ecdsa-sha2-nistp384", "SHA384", "ecdsa-sha2-nistp384" CERT, "nistp384", P384, 1},
    {"ecdsa-sha2-nistp521" CERT, "ecdsa-sha2-nistp521", "SHA512", "ecdsa-sha2-nistp521" CERT, "nistp521", P521, 1},
    {"rsa-sha2-512" CERT, "rsa-sha2-512", "SHA512", "ssh-rsa" CERT, NULL, RSA_KEY, 1},
    {"rsa-sha2-256" CERT, "rsa-sha2-256", "SHA256", "ssh-rsa" CERT, NULL, RSA_KEY, 1},
    {"ssh-rsa" CERT, "ssh-rsa", "SHA1", "ssh-rsa" CERT, NULL, RSA_KEY, 1}};

const unsigned peer_hostkey_count = sizeof(peer_hostkeys) / sizeof(*peer_hostkeys);

static EVP_PKEY *keys[5];

void peer_make_hostkeys(void) {
  keys[ED25519] = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
  keys[P256] = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
  keys[P384] = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-384");
  keys[P521] = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-521");
  keys[RSA_KEY] = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)1024);
  MUST(keys[ED25519] && keys[P256] && keys[P384] && keys[P521] && keys[RSA_KEY]);
}

static void put_number(struct peer_bytes *to, const BIGNUM *number) {
  unsigned char bytes[1024];
  int len = BN_bn2bin(number, bytes);
  peer_put_mpint(to, bytes, (size_t)len);
}

static void put_rsa_number(struct peer_bytes *to, EVP_PKEY *key, const char *name) {
  BIGNUM *number = NULL;
  MUST(EVP_PKEY_get_bn_param(key, name, &number));
  put_number(to, number);
  BN_free(number);
}

void peer_hostkey_blob(const struct peer_hostkey *hostkey, struct peer_bytes *blob) {
  static const unsigned char nonce[32], times[8];
  unsigned char public[200];
  size_t len = sizeof(public);
  EVP_PKEY *key = keys[hostkey->key];
  blob->len = 0;
  peer_put_text(blob, hostkey->blob);
  if (hostkey->certificate)
    peer_put_string(blob, nonce, sizeof(nonce));
  if (hostkey->curve) {
    peer_put_text(blob, hostkey->curve);
    MUST(EVP_PKEY_get_octet_string_param(key, OSSL_PKEY_PARAM_PUB_KEY, public, len, &len));
    if (public[0] != 4) /* only the uncompressed form has both coordinates */
      MUST(0);
    peer_put_string(blob, public, len);
  } else if (hostkey->key == RSA_KEY) {
    put_rsa_number(blob, key, OSSL_PKEY_PARAM_RSA_E);
    put_rsa_number(blob, key, OSSL_PKEY_PARAM_RSA_N);
  } else {
    MUST(EVP_PKEY_get_raw_public_key(key, public, &len));
    peer_put_string(blob, public, len);
  }
  if (hostkey->certificate) { /* Python judges all of this; C takes the key only */
    peer_put(blob, times, 8);
    peer_put_u32(blob, 2);
    peer_put_text(blob, "host");
    peer_put_text(blob, "");
    peer_put(blob, times, 8);
    peer_put(blob, times, 8);
    peer_put_text(blob, "");
    peer_put_text(blob, "");
    peer_put_text(blob, "");
    peer_put_text(blob, "ca");
    peer_put_text(blob, "signature");
  }
}

/* r and s apart, out of what OpenSSL makes of them. */
static void put_ecdsa(struct peer_bytes *to, const unsigned char *der, size_t len) {
  ECDSA_SIG *signature = d2i_ECDSA_SIG(NULL, &der, (long)len);
  struct peer_bytes both = {.len = 0};
  MUST(signature);
  put_number(&both, ECDSA_SIG_get0_r(signature));
  put_number(&both, ECDSA_SIG_get0_s(signature));
  peer_put_string(to, both.at, both.len);
  ECDSA_SIG_free(signature);
}

void peer_sign(const struct peer_hostkey *hostkey, const unsigned char *hash, size_t len,
               struct peer_bytes *signature) {
  EVP_MD_CTX *context = EVP_MD_CTX_new();
  unsigned char made[512];
  size_t size = sizeof(made);
  MUST(context && EVP_DigestSignInit_ex(context, NULL, hostkey->digest, NULL, NULL,
                                        keys[hostkey->key], NULL));
  MUST(EVP_DigestSign(context, made, &size, hash, len) == 1);
  EVP_MD_CTX_free(context);
  signature->len = 0;
  peer_put_text(signature, hostkey->signature);
  if (hostkey->curve)
    put_ecdsa(signature, made, size);
  else
    peer_put_string(signature, made, size);
}
