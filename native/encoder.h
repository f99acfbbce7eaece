/* A thin layer over libx264's public API for one luma-only encoder object.
 *
 * All functions may be called without Python's global interpreter lock. One encoder must not be
 * used by two threads at once; different encoders are independent of each other.
 */
#ifndef SSIMRDO_ENCODER_H
#define SSIMRDO_ENCODER_H

#include <stddef.h>
#include <stdint.h>

/* The longest side of a frame, in luma samples. */
enum { SSIMRDO_MAX_SIDE = 16384 };

typedef struct ssimrdo_encoder ssimrdo_encoder;

typedef struct ssimrdo_config {
    int width;               /* luma samples, even */
    int height;              /* luma samples, even */
    int bit_depth;           /* 8 or 10 */
    int repeat_headers;      /* parameter sets before every keyframe, as raw streams need them */
    int repeatable;          /* keep off assembly that makes encodes differ from run to run */
    int fast_first_pass;     /* x264's own cheap settings; has an effect with pass=1 only */
    const char *preset;      /* one of x264_preset_names */
    const char *tune;        /* one of x264_tune_names, or NULL */
    const char *profile;     /* one of x264_profile_names */
    const char **names;      /* x264_param_parse names, applied in order */
    const char **values;     /* their values */
    size_t n_options;
    /* Variants hold options on top of those, for single frames. Their names and values stand one
     * variant after another; variant_lengths says how many each has. */
    const char **variant_names;
    const char **variant_values;
    const size_t *variant_lengths;
    size_t n_variants;
} ssimrdo_config;

typedef struct ssimrdo_packet {
    const uint8_t *data;     /* Annex B; valid until the next call; NULL when nothing came out */
    size_t size;             /* bytes */
    int64_t pts;             /* frames */
    int64_t dts;             /* frames; the first ones may be negative */
    int keyframe;
    int type;                /* X264_TYPE_* */
} ssimrdo_packet;

/* Where a failure of ssimrdo_encoder_open lies. */
enum {
    SSIMRDO_OK = 0,
    SSIMRDO_OUT_OF_MEMORY = 1,
    SSIMRDO_BAD_SIZE = 2,
    SSIMRDO_BAD_PRESET = 3,
    SSIMRDO_BAD_TUNE = 4,
    SSIMRDO_BAD_PROFILE = 5,
    SSIMRDO_BAD_OPTION_NAME = 6,
    SSIMRDO_BAD_OPTION_VALUE = 7,
    SSIMRDO_OPEN_FAILED = 8,
    SSIMRDO_ENCODE_FAILED = 9,
    SSIMRDO_NOT_OPEN = 10,
    SSIMRDO_SHARED_OPTION = 11
};

/* The number of the x264 API that this was compiled for; the loaded library has the same, as its
 * functions carry it in their names. */
int ssimrdo_x264_build(void);

/* Allocate an encoder that is not open yet; NULL when memory is short. */
ssimrdo_encoder *ssimrdo_encoder_new(void);

/* Open it. On SSIMRDO_BAD_OPTION_*, *bad_option is the index of the option; those of variants are
 * counted on from n_options. SSIMRDO_SHARED_OPTION: a variant has an option that x264 keeps as
 * text, whose memory it would share with the encoder. */
int ssimrdo_encoder_open(ssimrdo_encoder *encoder, const ssimrdo_config *config,
                         size_t *bad_option);

/* SPS, PPS and SEI as one Annex B string, valid until the next call. */
int ssimrdo_encoder_headers(ssimrdo_encoder *encoder, ssimrdo_packet *headers);

/* Encode one picture, or with luma == NULL fetch a delayed one.
 *
 * luma            width x height samples without row padding: uint8_t, or uint16_t at 10 bit
 * luma_bytes      size of luma
 * offsets         one quantizer offset per macroblock in raster order, or NULL
 * n_offsets       length of offsets
 * pts             frames
 * type            X264_TYPE_*; 0 leaves the choice to x264
 * variant         which variant's options hold for this frame, from 1 on; 0 for none
 * reconstruction  receives the luma that a decoder will show for packet->pts, or NULL
 * reconstruction_bytes  size of reconstruction
 */
int ssimrdo_encoder_encode(ssimrdo_encoder *encoder, const void *luma, size_t luma_bytes,
                           const float *offsets, size_t n_offsets, int64_t pts, int type,
                           size_t variant, void *reconstruction, size_t reconstruction_bytes,
                           ssimrdo_packet *packet);

/* Frames that went in and have not come out. */
int ssimrdo_encoder_delayed(ssimrdo_encoder *encoder);

/* Take x264's oldest unread log message: its length without the final NUL, or -1 when there is
 * none. At most size - 1 bytes are copied. *level receives X264_LOG_*. */
int ssimrdo_encoder_take_log(ssimrdo_encoder *encoder, char *text, size_t size, int *level);

/* Close x264's encoder; its last messages can still be taken. May be called twice. */
void ssimrdo_encoder_close(ssimrdo_encoder *encoder);

/* Close and release everything. */
void ssimrdo_encoder_free(ssimrdo_encoder *encoder);

#endif
