// TLS by OpenSSL between two memory buffers: it never sees a socket.
#include "amqp/server.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct tls_context {
    SSL_CTX *context;
};

struct tls {
    SSL *ssl;
    BIO *in, *out; // the network's side
};

// ---- the context: certificate, key, who may show a certificate

static enum err wrong(struct tls_context *t, const char *what, const char *path, struct error *e) {
    char reason[160] = "unknown error";
    unsigned long code = ERR_get_error();
    if (code != 0) ERR_error_string_n(code, reason, sizeof reason);
    ERR_clear_error();
    tls_context_free(t);
    return error_set(e, ERR_INVALID, "cannot use the %s %s: %s", what, path ? path : "", reason);
}

enum err tls_context_new(struct tls_context **out, const char *certificate, const char *key, const char *ca,
                         struct error *e) {
    if (!certificate || !key) return error_set(e, ERR_INVALID, "AMQP over TLS needs a certificate and its key");
    struct tls_context *t = calloc(1, sizeof *t);
    if (!t || !(t->context = SSL_CTX_new(TLS_server_method()))) {
        free(t);
        return error_set(e, ERR_NOMEM, "out of memory");
    }
    SSL_CTX_set_min_proto_version(t->context, TLS1_2_VERSION);
    SSL_CTX_set_mode(t->context,
                     SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_options(t->context, SSL_OP_NO_RENEGOTIATION);
    if (SSL_CTX_use_certificate_chain_file(t->context, certificate) != 1)
        return wrong(t, "certificate", certificate, e);
    if (SSL_CTX_use_PrivateKey_file(t->context, key, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_check_private_key(t->context) != 1)
        return wrong(t, "private key", key, e);
    if (ca) {
        if (SSL_CTX_load_verify_locations(t->context, ca, NULL) != 1) return wrong(t, "authority", ca, e);
        SSL_CTX_set_client_CA_list(t->context, SSL_load_client_CA_file(ca));
        SSL_CTX_set_verify(t->context, SSL_VERIFY_PEER, NULL); // none is fine, a wrong one is not
        static const unsigned char session_context[] = "barid";
        SSL_CTX_set_session_id_context(t->context, session_context, sizeof session_context - 1);
    }
    *out = t;
    return ERR_OK;
}

void tls_context_free(struct tls_context *t) {
    if (!t) return;
    SSL_CTX_free(t->context);
    free(t);
}

// ---- one connection

struct tls *tls_new(struct tls_context *context) {
    struct tls *t = calloc(1, sizeof *t);
    if (!t) return NULL;
    t->ssl = SSL_new(context->context);
    t->in = BIO_new(BIO_s_mem());
    t->out = BIO_new(BIO_s_mem());
    if (!t->ssl || !t->in || !t->out) {
        SSL_free(t->ssl);
        BIO_free(t->in);
        BIO_free(t->out);
        free(t);
        return NULL;
    }
    SSL_set_bio(t->ssl, t->in, t->out); // which now owns them
    SSL_set_accept_state(t->ssl);
    return t;
}

void tls_free(struct tls *t) {
    if (!t) return;
    SSL_free(t->ssl);
    free(t);
}

bool tls_put(struct tls *t, const uint8_t *data, size_t n) { return BIO_write(t->in, data, (int)n) == (int)n; }

static enum tls_result result_of(struct tls *t, int rc) {
    int error = SSL_get_error(t->ssl, rc);
    ERR_clear_error();
    return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? TLS_MORE : TLS_END;
}

enum tls_result tls_handshake(struct tls *t) {
    int rc = SSL_do_handshake(t->ssl);
    return rc == 1 ? TLS_OK : result_of(t, rc);
}

enum tls_result tls_read(struct tls *t, uint8_t *out, size_t size, size_t *got) {
    int rc = SSL_read_ex(t->ssl, out, size, got);
    return rc == 1 ? TLS_OK : result_of(t, rc);
}

bool tls_write(struct tls *t, struct buf *plain) {
    size_t at = 0, written = 0;
    while (at < plain->len) {
        if (SSL_write_ex(t->ssl, plain->data + at, plain->len - at, &written) != 1) {
            ERR_clear_error();
            return false; // memory takes everything: it is broken
        }
        at += written;
    }
    return true;
}

void tls_end(struct tls *t) {
    if ((SSL_get_shutdown(t->ssl) & SSL_SENT_SHUTDOWN) == 0 && SSL_is_init_finished(t->ssl)) SSL_shutdown(t->ssl);
    ERR_clear_error();
}

void tls_take(struct tls *t, struct buf *out) {
    size_t n = BIO_ctrl_pending(t->out);
    uint8_t *room = n > 0 ? buf_reserve(out, n) : NULL;
    if (!room) return;
    int got = BIO_read(t->out, room, (int)n);
    if (got > 0) out->len += (size_t)got;
}

void tls_describe(const struct tls *t, struct connection_tls *out) {
    memset(out, 0, sizeof *out);
    const char *protocol = SSL_get_version(t->ssl); // "TLSv1.3"; RabbitMQ writes "tlsv1.3"
    for (size_t i = 0; protocol[i] && i + 1 < sizeof out->protocol; i++)
        out->protocol[i] = (char)(protocol[i] >= 'A' && protocol[i] <= 'Z' ? protocol[i] + 32 : protocol[i]);
    snprintf(out->cipher, sizeof out->cipher, "%s", SSL_get_cipher_name(t->ssl));
    X509 *certificate = SSL_get_verify_result(t->ssl) == X509_V_OK ? SSL_get1_peer_certificate(t->ssl) : NULL;
    if (!certificate) return;
    int n = X509_NAME_get_text_by_NID(X509_get_subject_name(certificate), NID_commonName, out->common_name,
                                      sizeof out->common_name);
    // A name with a NUL inside, or too long for us, is nobody's.
    if (n < 0 || (size_t)n != strlen(out->common_name) || (size_t)n + 1 >= sizeof out->common_name)
        out->common_name[0] = 0;
    X509_free(certificate);
}
