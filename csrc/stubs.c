/* stubs.c - the three libssh2 functions that its tables name and we never use.
 *
 * Host key methods carry pointers to private key parsers (pem.c, bcrypt,
 * blowfish), and waiting on a blocking session sends keepalives.  Keys are
 * parsed above, our sessions never block: with these refusals none of that
 * code is linked.
 */
#include "libssh2_priv.h"
#include "misc.h"

int
_libssh2_openssh_pem_parse(LIBSSH2_SESSION *session,
                           const unsigned char *passphrase, FILE *fp,
                           struct string_buf **decrypted_buf)
{
    (void)passphrase;
    (void)fp;
    (void)decrypted_buf;
    return _libssh2_error(session, LIBSSH2_ERROR_METHOD_NOT_SUPPORTED,
                          "private keys are not parsed here");
}

int
_libssh2_openssh_pem_parse_memory(LIBSSH2_SESSION *session,
                                  const unsigned char *passphrase,
                                  const char *filedata, size_t filedata_len,
                                  struct string_buf **decrypted_buf)
{
    (void)passphrase;
    (void)filedata;
    (void)filedata_len;
    (void)decrypted_buf;
    return _libssh2_error(session, LIBSSH2_ERROR_METHOD_NOT_SUPPORTED,
                          "private keys are not parsed here");
}

LIBSSH2_API int
libssh2_keepalive_send(LIBSSH2_SESSION *session, int *seconds_to_next)
{
    if(seconds_to_next)
        *seconds_to_next = 0;
    return _libssh2_error(session, LIBSSH2_ERROR_METHOD_NOT_SUPPORTED,
                          "keepalives are sent by the link");
}
