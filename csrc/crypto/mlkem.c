/* mlkem.c - see mlkem.h. */
#include "mlkem.h"

#include <openssl/err.h>
#include <stdatomic.h>

static const char *const NAME = "ML-KEM-768";

int mlkem_in_openssl(void) {
  static atomic_int known; /* 0: not asked yet; 1: no; 2: yes */
  int state = atomic_load(&known);
  if (!state) {
    EVP_PKEY_CTX *context;
    ERR_set_mark();
    context = EVP_PKEY_CTX_new_from_name(NULL, NAME, NULL);
    state = context && EVP_PKEY_keygen_init(context) > 0 ? 2 : 1;
    EVP_PKEY_CTX_free(context);
    ERR_pop_to_mark();
    atomic_store(&known, state);
  }
  return state == 2;
}

EVP_PKEY *mlkem_new_key(unsigned char public_key[MLKEM_PUBLIC_KEY]) {
  EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, NAME, NULL);
  EVP_PKEY *key = NULL;
  size_t len = MLKEM_PUBLIC_KEY;
  if (!context || EVP_PKEY_keygen_init(context) <= 0 || EVP_PKEY_generate(context, &key) <= 0 ||
      EVP_PKEY_get_raw_public_key(key, public_key, &len) <= 0 || len != MLKEM_PUBLIC_KEY) {
    EVP_PKEY_free(key);
    key = NULL;
  }
  EVP_PKEY_CTX_free(context);
  return key;
}

int mlkem_decapsulate(EVP_PKEY *key, const unsigned char ciphertext[MLKEM_CIPHERTEXT],
                      unsigned char secret[MLKEM_SECRET]) {
  EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);
  size_t len = MLKEM_SECRET;
  int good = context && EVP_PKEY_decapsulate_init(context, NULL) > 0 &&
             EVP_PKEY_decapsulate(context, secret, &len, ciphertext, MLKEM_CIPHERTEXT) > 0 &&
             len == MLKEM_SECRET;
  EVP_PKEY_CTX_free(context);
  return good ? 0 : -1;
}
