
typedef int32_t result;
#define RESULTS 1
