// Ids and structs of the methods, made from methods.def; codec.h tells how they are named.
#ifndef BARID_AMQP_METHODS_H
#define BARID_AMQP_METHODS_H

#include "wire/table.h"

#define METHOD_CLASS(id) ((uint16_t)((uint32_t)(id) >> 16))
#define METHOD_INDEX(id) ((uint16_t)(id)) // the method's number in its class

enum method_id {
#define METHOD(ID, place, name, class_id, method_id, fields)         METHOD_##ID = (class_id) << 16 | (method_id),
#define CONTENT_METHOD(ID, place, name, class_id, method_id, fields) METHOD_##ID = (class_id) << 16 | (method_id),
#include "amqp/methods.def"
};

#define METHOD(ID, place, name, class_id, method_id, fields)                                                           \
    struct place {                                                                                                     \
        fields                                                                                                         \
    };
#define CONTENT_METHOD METHOD
#define U8(name)       uint8_t name;
#define U16(name)      uint16_t name;
#define U32(name)      uint32_t name;
#define U64(name)      uint64_t name;
#define BIT(name)      bool name;
#define SHORT(name)    struct view name;
#define LONG(name)     struct view name;
#define TABLE(name)    struct view name;
#define RESERVED_U16
#define RESERVED_BIT
#define RESERVED_SHORT
#define RESERVED_LONG
#include "amqp/methods.def"

struct method {
    enum method_id id;
    union {
#define METHOD(ID, place, name, class_id, method_id, fields)         struct place place;
#define CONTENT_METHOD(ID, place, name, class_id, method_id, fields) struct place place;
#include "amqp/methods.def"
    };
};

#endif
