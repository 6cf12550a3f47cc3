// The handlers behind the routes. Each is called once with a complete request (ROUTE_STREAM: with its head) and
// sees to it that exactly one answer is given (request.h).
#ifndef BARID_HTTP_API_H
#define BARID_HTTP_API_H

struct buf;
struct chat_accepted;
struct chat_content;
struct http;
struct chat_entry;
struct request;

void api_user_add(struct request *r);
void api_user_get(struct request *r);
void api_login(struct request *r);
void api_logout(struct request *r);
void api_conversation_add(struct request *r);
void api_conversation_list(struct request *r);
void api_conversation_get(struct request *r);
void api_message_send(struct request *r);
void api_message_get(struct request *r);
void api_message_received(struct request *r);
void api_message_read(struct request *r);
void api_message_journey(struct request *r);
void api_media_upload(struct request *r);
void api_media_download(struct request *r);
void api_mailbox(struct request *r);
void api_mailbox_ack(struct request *r);
void api_events_plain(struct request *r); // GET /events without an upgrade: 426
void api_healthz(struct request *r);
void api_readyz(struct request *r);
void api_metrics(struct request *r);
void api_static(struct request *r); // "/" and, when no route fits, the other files of the web page

// Fields that HTTP and WebSocket share, written into an open object.
void api_write_accepted(struct buf *b, const struct chat_accepted *a);
void api_write_content(struct buf *b, const struct chat_content *c);
void api_polls_end(struct http *h);                                  // answered at once, as if their time were over
void api_write_entry(struct buf *b, const struct chat_entry *entry); // the whole object

#endif
