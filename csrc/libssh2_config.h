/* libssh2_config.h - what configure would find, for Linux with glibc or musl.
 *
 * Read by libssh2_setup.h under -DHAVE_CONFIG_H.  Algorithms that OpenSSL 3
 * keeps in its legacy provider, or that no server of this century requires,
 * are compiled out: what is not there cannot be negotiated or attacked.
 */
#ifndef HUSSH_LIBSSH2_CONFIG_H
#define HUSSH_LIBSSH2_CONFIG_H

#define LIBSSH2_OPENSSL
#define LIBSSH2_HAVE_ZLIB

#define LIBSSH2_NO_BLOWFISH
#define LIBSSH2_NO_CAST
#define LIBSSH2_NO_HMAC_RIPEMD
#define LIBSSH2_NO_MD5
#define LIBSSH2_NO_MD5_PEM
#define LIBSSH2_NO_RC4

#define HAVE_ARPA_INET_H
#define HAVE_INTTYPES_H
#define HAVE_NETINET_IN_H
#define HAVE_SYS_IOCTL_H
#define HAVE_SYS_PARAM_H
#define HAVE_SYS_SELECT_H
#define HAVE_SYS_SOCKET_H
#define HAVE_SYS_TIME_H
#define HAVE_SYS_UIO_H
#define HAVE_SYS_UN_H
#define HAVE_UNISTD_H

/* glibc has it since 2.25; wheels run with 2.17, where libssh2 writes through
 * a volatile pointer instead. */
#include <limits.h> /* in every C library it says which one that is */
#if !defined(__GLIBC__) || __GLIBC__ * 1000 + __GLIBC_MINOR__ >= 2025
#define HAVE_EXPLICIT_BZERO
#endif
#define HAVE_GETTIMEOFDAY
#define HAVE_O_NONBLOCK
#define HAVE_POLL
#define HAVE_SELECT
#define HAVE_SNPRINTF
#define HAVE_STRTOLL

#endif
