/* A thin layer over libx265's public API for one luma-only encoder object.
 *
 * All functions may be called without Python's global interpreter lock. One encoder must not be
 * used by two threads at once; different encoders are independent of each other.
 */
#ifndef SSIMRDO_X265_ENCODER_H
#define SSIMRDO_X265_ENCODER_H

#include <stddef.h>
#include <stdint.h>

/* Sides of a frame, in luma samples. x265 corrupts memory at frames 40 or 48 samples wide; from 64
 * on it has not been seen to. */
enum { SSIMRDO_X265_MIN_SIDE = 64, SSIMRDO_X265_MAX_SIDE = 8192 };

typedef struct ssimrdo_x265 ssimrdo_x265;

typedef struct ssimrdo_x265_config {
    int width;               /* luma samples, even */
    int height;              /* luma samples, even */
    int bit_depth;           /* 8 or 10 */
    int repeat_headers;      /* parameter sets before every keyframe, as raw streams need them */
    int slow_first_pass;     /* keep the full search in the first of two passes */
    const char *preset;      /* one of x265_preset_names */
    const char *tune;        /* one of x265_tune_names, or NULL */
    const char **names;      /* x265_param_parse names, applied in order */
    const char **values;     /* their values */
    size_t n_options;
} ssimrdo_x265_config;

typedef struct ssimrdo_x265_packet {
    const uint8_t *data;     /* Annex B; valid until the next call; NULL when nothing came out */
    size_t size;             /* bytes */
    int64_t pts;             /* frames */
    int type;                /* X265_TYPE_* */
} ssimrdo_x265_packet;

/* Where a failure of ssimrdo_x265_open lies. */
enum {
    SSIMRDO_X265_OK = 0,
    SSIMRDO_X265_OUT_OF_MEMORY = 1,
    SSIMRDO_X265_BAD_SIZE = 2,
    SSIMRDO_X265_BAD_PRESET = 3,
    SSIMRDO_X265_BAD_OPTION_NAME = 4,
    SSIMRDO_X265_BAD_OPTION_VALUE = 5,
    SSIMRDO_X265_OPEN_FAILED = 6,
    SSIMRDO_X265_ENCODE_FAILED = 7,
    SSIMRDO_X265_NOT_OPEN = 8,
    SSIMRDO_X265_NO_DEPTH = 9,
    SSIMRDO_X265_OTHER_BUILD = 10
};

/* What the loaded library says of itself, and what this was compiled for. */
typedef struct ssimrdo_x265_library {
    int build;               /* X265_BUILD of the library */
    int compiled_build;      /* X265_BUILD of the headers */
    int picture_bytes;       /* sizeof(x265_picture) in the library */
    int compiled_picture_bytes;
    int param_bytes;         /* sizeof(x265_param) in the library */
    int compiled_param_bytes;
    const char *version;     /* such as "3.5+1-f0c1022b6" */
} ssimrdo_x265_library;

/* Look at the library for a bit depth: SSIMRDO_X265_OK, SSIMRDO_X265_NO_DEPTH where it has none for
 * it, or SSIMRDO_X265_OTHER_BUILD where its structures are others than these headers'. */
int ssimrdo_x265_look(int bit_depth, ssimrdo_x265_library *library);

/* Allocate an encoder that is not open yet; NULL when memory is short. */
ssimrdo_x265 *ssimrdo_x265_new(void);

/* Open it. On SSIMRDO_X265_BAD_OPTION_*, *bad_option is the index of the option. */
int ssimrdo_x265_open(ssimrdo_x265 *encoder, const ssimrdo_x265_config *config,
                      size_t *bad_option);

/* VPS, SPS and PPS as one Annex B string, valid until the next call. */
int ssimrdo_x265_headers(ssimrdo_x265 *encoder, ssimrdo_x265_packet *headers);

/* Encode one picture, or with luma == NULL fetch a delayed one; nothing may follow that but more of
 * these. A packet without data then says that all have come out.
 *
 * luma            width x height samples without row padding: uint8_t, or uint16_t at 10 bit
 * luma_bytes      size of luma
 * offsets         one quantizer offset per 16x16 block in raster order, or NULL; all frames of an
 *                 encoder have them, or none
 * n_offsets       length of offsets
 * pts             frames
 * type            X265_TYPE_*; 0 leaves the choice to x265
 * reconstruction  receives the luma that a decoder will show for packet->pts
 * reconstruction_bytes  size of reconstruction
 */
int ssimrdo_x265_encode(ssimrdo_x265 *encoder, const void *luma, size_t luma_bytes,
                        const float *offsets, size_t n_offsets, int64_t pts, int type,
                        void *reconstruction, size_t reconstruction_bytes,
                        ssimrdo_x265_packet *packet);

/* Close and release everything. */
void ssimrdo_x265_free(ssimrdo_x265 *encoder);

#endif
