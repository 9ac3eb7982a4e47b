/* DOC: The table of features, made from features.def. */
#include "pilot/translate/feature.h"

#define FEATURE(name) extern const struct feature name##_feature;
#include "pilot/features/features.def"
#undef FEATURE

const struct feature *const features[] = {
#define FEATURE(name) &name##_feature,
#include "pilot/features/features.def"
#undef FEATURE
};
const size_t feature_count = ARRAY_LEN(features);
