#ifndef LGN_NET_H
#define LGN_NET_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define LGN_NET_NUM_INPUTS 128
#define LGN_NET_NUM_CLASSES 10
#define LGN_NET_WORD_BITS 64
#define LGN_NET_NUM_PIXELS 64 /* bytes of an image; 0 without thresholds */

/* A word holds one input of 64 samples: bit j is sample j. */
typedef uint64_t lgn_net_word;

/*
 * All functions return 0, or -1 if memory is short, and may run in several threads at once.
 * scores: count x 10, row by row; a score is the number of ones among the 30 outputs of a class.
 * classes: count; the class of the highest score, the first one of equals.
 * packed: word [i * 128 + d] holds input d of samples 64 i ... 64 i + 63.
 * bools: count x 128 bytes, 0 is false, all else is true.
 */
int lgn_net_scores_packed(const lgn_net_word *inputs, int32_t *scores, size_t count);
int lgn_net_predict_packed(const lgn_net_word *inputs, int32_t *classes, size_t count);
int lgn_net_scores_bools(const uint8_t *inputs, int32_t *scores, size_t count);
int lgn_net_predict_bools(const uint8_t *inputs, int32_t *classes, size_t count);

/* pixels: count x 64 bytes (1 x 8 x 8, channels, rows, columns); the thresholds are built in. */
int lgn_net_scores_pixels(const uint8_t *pixels, int32_t *scores, size_t count);
int lgn_net_predict_pixels(const uint8_t *pixels, int32_t *classes, size_t count);

/* The macros above, for callers without a compiler. 0: inputs, 1: classes, 2: bits of a word, 3: pixels; else -1. */
int64_t lgn_net_info(int what);

/* Name of a class, or NULL if there is no such class. */
const char *lgn_net_class_name(int32_t index);

#ifdef __cplusplus
}
#endif

#endif
