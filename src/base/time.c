// Calendar arithmetic on the proleptic Gregorian calendar. Days are counted from 1970-01-01; a year is taken to
// begin in March, so that the leap day is its last and month lengths follow one formula.
#include "base/time.h"

#include <stdio.h>

#define DAY_MS       INT64_C(86400000)
#define YEAR_0_MS    INT64_C(-62167219200000)
#define YEAR_9999_MS INT64_C(253402300799999)
#define ERA_DAYS     146097 // 400 years
#define DAYS_TO_1970 719468 // from 0000-03-01

struct date {
    int year, month, day;
};

static int64_t days_of(struct date d) {
    int64_t year = d.month <= 2 ? d.year - 1 : d.year;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    int64_t of_era = year - era * 400;
    int64_t month = (d.month + 9) % 12;
    int64_t of_year = (153 * month + 2) / 5 + d.day - 1;
    return era * ERA_DAYS + of_era * 365 + of_era / 4 - of_era / 100 + of_year - DAYS_TO_1970;
}

static struct date date_of(int64_t days) {
    days += DAYS_TO_1970;
    int64_t era = (days >= 0 ? days : days - ERA_DAYS + 1) / ERA_DAYS;
    int64_t of_era = days - era * ERA_DAYS;
    int64_t year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t of_year = of_era - (365 * year + year / 4 - year / 100);
    int64_t month = (5 * of_year + 2) / 153;
    struct date d = {.day = (int)(of_year - (153 * month + 2) / 5 + 1),
                     .month = (int)(month < 10 ? month + 3 : month - 9)};
    d.year = (int)(year + era * 400 + (d.month <= 2));
    return d;
}

void time_format_ms(int64_t ms, char out[static TIME_TEXT]) {
    if (ms < YEAR_0_MS) ms = YEAR_0_MS;
    if (ms > YEAR_9999_MS) ms = YEAR_9999_MS;
    int64_t days = (ms >= 0 ? ms : ms - DAY_MS + 1) / DAY_MS;
    unsigned of_day = (unsigned)(ms - days * DAY_MS);
    struct date d = date_of(days);
    char text[64];
    snprintf(text, sizeof text, "%04d-%02d-%02dT%02u:%02u:%02u.%03uZ", d.year, d.month, d.day, of_day / 3600000,
             of_day / 60000 % 60, of_day / 1000 % 60, of_day % 1000);
    for (int i = 0; i < TIME_TEXT - 1; i++) out[i] = text[i];
    out[TIME_TEXT - 1] = 0;
}

struct scan {
    const char *at, *end;
    bool failed;
};

static int number(struct scan *s, int digits) {
    int v = 0;
    for (int i = 0; i < digits; i++) {
        if (s->at == s->end || *s->at < '0' || *s->at > '9') {
            s->failed = true;
            return 0;
        }
        v = v * 10 + (*s->at++ - '0');
    }
    return v;
}

static bool one_of(struct scan *s, char a, char b) {
    if (s->at == s->end || (*s->at != a && *s->at != b)) return false;
    s->at++;
    return true;
}

static void expect(struct scan *s, char a, char b) {
    if (!one_of(s, a, b)) s->failed = true;
}

static int fraction_ms(struct scan *s) {
    if (!one_of(s, '.', '.')) return 0;
    int v = number(s, 1) * 100, scale = 10;
    while (s->at < s->end && *s->at >= '0' && *s->at <= '9') {
        v += (*s->at++ - '0') * scale;
        scale /= 10;
    }
    return v;
}

static int offset_minutes(struct scan *s) {
    if (one_of(s, 'Z', 'z')) return 0;
    int sign = one_of(s, '-', '-') ? -1 : 1;
    if (sign > 0) expect(s, '+', '+');
    int hours = number(s, 2);
    expect(s, ':', ':');
    int minutes = number(s, 2);
    if (hours > 23 || minutes > 59) s->failed = true;
    return sign * (hours * 60 + minutes);
}

static bool real_date(struct date d) {
    if (d.month < 1 || d.month > 12 || d.day < 1) return false;
    return date_of(days_of(d)).month == d.month; // the 31st of April is in May
}

bool time_parse_ms(const char *text, size_t len, int64_t *ms) {
    struct scan s = {.at = text, .end = text + len};
    struct date d = {0};
    d.year = number(&s, 4);
    expect(&s, '-', '-');
    d.month = number(&s, 2);
    expect(&s, '-', '-');
    d.day = number(&s, 2);
    expect(&s, 'T', 't');
    int hour = number(&s, 2);
    expect(&s, ':', ':');
    int minute = number(&s, 2);
    expect(&s, ':', ':');
    int second = number(&s, 2);
    int fraction = fraction_ms(&s);
    int offset = offset_minutes(&s);
    if (s.failed || s.at != s.end || !real_date(d) || hour > 23 || minute > 59 || second > 60) return false;
    int64_t seconds = days_of(d) * 86400 + hour * 3600 + (minute - offset) * 60 + second;
    *ms = seconds * 1000 + fraction;
    return true;
}
