/* A logic gate network as a boolean circuit, written by lgn-lightning. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lgn_net.h"

#define NUM_INPUTS 128
#define NUM_CLASSES 10
#define GROUP_SIZE 30
#define NUM_PLANES 5
#define NUM_SLOTS 291
#define WORD_BITS 64
enum { KIND_PACKED, KIND_BOOLS, KIND_PIXELS };
#define NUM_THRESHOLDS 2
#define NUM_PIXELS 64
#define ROW_PIXELS NUM_PIXELS
static const uint8_t THRESHOLDS[NUM_THRESHOLDS] = {63, 127};
#define ROW_BYTES NUM_PIXELS
#define ROW_KIND KIND_PIXELS

typedef lgn_net_word word;
typedef uint16_t slot_index;
#ifdef LGN_VECTOR_BYTES
typedef word vec __attribute__((vector_size(LGN_VECTOR_BYTES), may_alias));
#define LANES (LGN_VECTOR_BYTES / sizeof(word))
#define ZERO ((vec){0})
#else
typedef word vec;
#define LANES ((size_t)1)
#define ZERO ((vec)0)
#endif

static const char *const CLASS_NAMES[NUM_CLASSES] = {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"};

/* Slots of the outputs, class by class. */
static const slot_index OUTPUTS[] = {
    128, 131, 135, 136, 137, 42, 95, 138, 139, 140, 141, 142, 30, 143, 148, 149, 151, 85, 132, 154,
    155, 156, 158, 159, 162, 163, 164, 97, 166, 170, 171, 172, 174, 175, 176, 179, 181, 182, 184, 185,
    186, 91, 191, 192, 196, 119, 27, 197, 199, 200, 202, 63, 203, 167, 201, 126, 204, 205, 206, 207,
    208, 209, 213, 214, 165, 216, 198, 49, 219, 222, 223, 224, 77, 177, 225, 227, 229, 231, 232, 213,
    187, 234, 8, 126, 29, 19, 189, 235, 236, 239, 240, 241, 242, 55, 123, 92, 57, 245, 246, 247,
    248, 109, 217, 251, 144, 9, 255, 234, 256, 256, 46, 257, 180, 147, 134, 113, 259, 260, 262, 264,
    265, 265, 195, 73, 122, 41, 83, 233, 4, 12, 89, 121, 105, 50, 33, 269, 129, 61, 271, 272,
    270, 274, 237, 152, 220, 275, 228, 250, 243, 37, 32, 17, 258, 153, 276, 249, 244, 277, 31, 279,
    96, 280, 281, 88, 79, 254, 56, 69, 32, 18, 48, 230, 10, 18, 282, 218, 124, 5, 283, 160,
    168, 81, 284, 285, 193, 110, 28, 252, 90, 286, 86, 238, 1, 23, 66, 20, 112, 62, 99, 161,
    211, 53, 289, 35, 127, 51, 178, 59, 267, 226, 40, 76, 74, 6, 71, 54, 51, 60, 30, 13,
    84, 85, 34, 38, 290, 188, 2, 16, 150, 130, 169, 26, 39, 3, 114, 47, 21, 93, 45, 104,
    72, 273, 15, 17, 120, 65, 278, 212, 266, 117, 100, 7, 224, 11, 111, 133, 125, 261, 24, 25,
    120, 118, 253, 44, 190, 36, 106, 288, 94, 231, 101, 67, 157, 70, 263, 98, 183, 92, 95, 145,
    103, 215, 87, 80, 210, 108, 268, 287, 221, 52, 43, 78, 107, 14, 146, 194, 0, 173, 82, 112,
};

static void gates_0(vec *s)
{
    const vec t0 = (vec)(~(s[22] | s[29]));
    s[128] = (vec)(~(s[36] | t0));
    s[129] = (vec)(s[16] | s[109]);
    s[130] = (vec)(~(s[129] | t0));
    const vec t4 = (vec)(~s[62] & s[123]);
    s[131] = (vec)(s[109] & t4);
    const vec t6 = (vec)(~s[15] & s[25]);
    s[132] = (vec)(t6 & t4);
    const vec t8 = (vec)(~(s[71] | s[86]));
    s[133] = (vec)(~t6 & t8);
    const vec t10 = (vec)(s[20] & s[61]);
    s[134] = (vec)(t10 & t8);
    s[135] = (vec)(s[59] & ~s[122]);
    s[136] = (vec)(~s[27]);
    s[137] = (vec)(~s[91]);
    const vec t15 = (vec)(~s[65] & s[115]);
    s[138] = (vec)(~s[101] | t15);
    s[139] = (vec)(~s[28]);
    s[140] = (vec)(s[45] & s[106]);
    s[141] = (vec)(~s[9]);
    s[142] = (vec)(~s[36]);
    const vec t21 = (vec)(s[19] & ~s[76]);
    const vec t22 = (vec)(s[38] & ~s[47]);
    s[143] = (vec)(~t21 & t22);
    s[144] = (vec)(s[111] | ~t22);
    s[145] = (vec)(s[0] | s[61]);
    s[146] = (vec)(s[145] & ~t21);
    s[147] = (vec)(~s[39] & s[92]);
    s[148] = (vec)(~(s[36] | s[147]));
    const vec t29 = (vec)(s[66] ^ s[97]);
    s[149] = (vec)(s[60] & ~t29);
    s[150] = (vec)(~(s[63] | t29));
    const vec t32 = (vec)(s[10] & s[58]);
    s[151] = (vec)(s[89] & t32);
    const vec t34 = (vec)(~s[56] & s[61]);
    s[152] = (vec)(s[26] & ~t34);
    s[153] = (vec)(~t34 & t32);
    s[154] = (vec)(s[39] | s[49]);
    const vec t38 = (vec)(s[13] & ~s[40]);
    s[155] = (vec)(s[96] | t38);
    s[156] = (vec)(~(s[44] | s[69]));
    s[157] = (vec)(s[21] & ~s[31]);
    s[158] = (vec)(~s[71] & s[157]);
    s[159] = (vec)(s[33] & ~s[48]);
    const vec t44 = (vec)(~(s[81] | s[104]));
    s[160] = (vec)(s[66] | ~t44);
    s[161] = (vec)(t44 & s[159]);
    const vec t47 = (vec)(~s[78] & s[124]);
    s[162] = (vec)(~s[7] & t47);
    const vec t49 = (vec)(s[67] & ~s[127]);
    s[163] = (vec)(s[29] & t49);
    s[164] = (vec)(s[41] & ~s[79]);
    const vec t52 = (vec)(s[95] & s[97]);
    s[97] = (vec)(~s[70] | t52);
    s[165] = (vec)(~(s[99] | t52));
    s[166] = (vec)(s[73] | ~s[84]);
    const vec t56 = (vec)(s[36] & s[38]);
    s[167] = (vec)(~(t56 | s[166]));
    s[168] = (vec)(s[107] | s[111]);
    s[169] = (vec)(s[168] | t56);
    s[170] = (vec)(~(s[78] | s[92]));
    const vec t61 = (vec)(s[32] & s[119]);
    s[171] = (vec)(s[91] ^ t61);
    s[172] = (vec)(s[120] | s[127]);
    s[173] = (vec)(s[78] & ~s[122]);
    s[174] = (vec)(s[60] & ~s[173]);
    const vec t66 = (vec)(~(s[17] | s[54]));
    s[175] = (vec)(~s[58] & t66);
    const vec t68 = (vec)(~s[34] & s[86]);
    const vec t69 = (vec)(~(s[57] | s[101]));
    s[176] = (vec)(t68 | t69);
    s[177] = (vec)(s[2] & t69);
    const vec t72 = (vec)(~s[19] & s[53]);
    s[19] = (vec)(s[120] | t72);
    s[178] = (vec)(~(t72 | t68));
    s[179] = (vec)(~s[31] & s[83]);
    s[180] = (vec)(~(s[18] | s[179]));
    s[181] = (vec)(s[28] & ~s[70]);
    const vec t78 = (vec)(s[14] & s[29]);
    const vec t79 = (vec)(s[33] & s[69]);
    s[182] = (vec)(t78 & t79);
    s[183] = (vec)(s[77] & ~s[119]);
    s[184] = (vec)(~s[58] & s[183]);
    s[185] = (vec)(s[52] & ~s[65]);
    const vec t84 = (vec)(s[74] & ~s[107]);
    s[186] = (vec)(~(s[16] | t84));
    const vec t86 = (vec)(~(s[6] | s[96]));
    s[187] = (vec)(~t84 & t86);
    s[188] = (vec)(s[77] & ~t86);
    s[189] = (vec)(s[9] & s[43]);
    s[190] = (vec)(~s[10] | s[100]);
    s[191] = (vec)(~s[189] & s[190]);
    const vec t92 = (vec)(~s[47] & s[68]);
    s[192] = (vec)(~(s[42] | t92));
    const vec t94 = (vec)(~(s[89] | s[108]));
    s[193] = (vec)(~t92 & t94);
    const vec t96 = (vec)(s[50] & ~s[113]);
    s[194] = (vec)(t94 & ~t96);
    const vec t98 = (vec)(s[13] & ~s[53]);
    s[195] = (vec)(~(t98 | t96));
}

static void gates_1(vec *s)
{
    s[196] = (vec)(s[28] & ~s[38]);
    s[197] = (vec)(~s[2] & s[77]);
    s[198] = (vec)(s[59] & ~s[64]);
    s[199] = (vec)(~s[198]);
    s[200] = (vec)(s[44] & s[91]);
    s[201] = (vec)(s[69] ^ ~s[101]);
    s[202] = (vec)(~s[106] & s[201]);
    s[203] = (vec)(~s[102] & s[115]);
    s[123] = (vec)(s[123] & ~s[203]);
    const vec t109 = (vec)(s[76] & ~s[111]);
    s[204] = (vec)(~s[46] & t109);
    const vec t111 = (vec)(~s[8] & s[44]);
    s[205] = (vec)(~s[23] & t111);
    const vec t113 = (vec)(s[29] & s[67]);
    s[206] = (vec)(~(s[71] | t113));
    s[207] = (vec)(~s[2] | s[99]);
    s[208] = (vec)(s[72] | s[126]);
    const vec t117 = (vec)(s[11] & ~s[87]);
    s[209] = (vec)(~s[45] & t117);
    const vec t119 = (vec)(~(s[6] | s[23]));
    s[210] = (vec)(t119 | t117);
    s[211] = (vec)(s[35] & s[45]);
    s[212] = (vec)(s[211] & t119);
    s[213] = (vec)(~s[37]);
    s[214] = (vec)(~s[26] | s[72]);
    s[215] = (vec)(s[10] ^ s[70]);
    s[216] = (vec)(~s[109] & s[215]);
    s[49] = (vec)(~s[34] | s[49]);
    s[217] = (vec)(~s[114] & s[116]);
    s[218] = (vec)(s[217] & ~s[49]);
    const vec t130 = (vec)(s[10] & ~s[22]);
    s[219] = (vec)(s[84] & t130);
    s[220] = (vec)(s[31] | ~t130);
    s[221] = (vec)(~(s[57] | s[116]));
    s[222] = (vec)(~s[221]);
    s[223] = (vec)(~s[94] & s[122]);
    s[224] = (vec)(s[20] & ~s[38]);
    const vec t137 = (vec)(~s[41] & s[59]);
    s[52] = (vec)(~s[52] & t137);
    const vec t139 = (vec)(~s[77] & s[116]);
    s[77] = (vec)(t137 & t139);
    s[225] = (vec)(s[37] ^ ~s[120]);
    const vec t142 = (vec)(~(s[12] | s[73]));
    s[226] = (vec)(s[55] | t142);
    const vec t144 = (vec)(~(s[56] | s[90]));
    s[227] = (vec)(~t142 & t144);
    s[228] = (vec)(~(s[14] | t144));
    const vec t147 = (vec)(s[48] & ~s[127]);
    s[229] = (vec)(s[56] | ~t147);
    s[230] = (vec)(s[15] & ~t147);
    s[231] = (vec)(s[74] & ~s[110]);
    s[232] = (vec)(s[1] | s[81]);
    s[233] = (vec)(s[79] ^ ~s[232]);
    s[234] = (vec)(s[3] & ~s[26]);
    const vec t154 = (vec)(s[8] & s[83]);
    s[8] = (vec)(~(s[94] | t154));
    s[29] = (vec)(~(s[27] & s[29]));
    s[235] = (vec)(~(s[13] | s[41]));
    const vec t158 = (vec)(s[53] & ~s[86]);
    s[236] = (vec)(s[36] & t158);
    s[237] = (vec)(s[32] | ~t158);
    s[238] = (vec)(~s[31] & s[90]);
    s[239] = (vec)(~(s[32] | s[238]));
    s[240] = (vec)(~(s[43] | s[79]));
    const vec t164 = (vec)(~(s[30] | s[112]));
    s[241] = (vec)(s[101] & t164);
    const vec t166 = (vec)(~s[18] & s[58]);
    s[242] = (vec)(s[104] | t166);
    s[243] = (vec)(s[83] & ~t166);
    const vec t169 = (vec)(s[55] ^ s[84]);
    s[55] = (vec)(~s[55] & t169);
    s[57] = (vec)(s[57] & ~s[65]);
    const vec t172 = (vec)(s[7] & ~s[59]);
    s[65] = (vec)(s[57] & t172);
    const vec t174 = (vec)(~s[15] & s[101]);
    s[101] = (vec)(t174 | t172);
    const vec t176 = (vec)(~(s[23] | s[109]));
    s[244] = (vec)(t176 ^ t174);
    s[245] = (vec)(s[26] ^ ~s[88]);
    s[246] = (vec)(s[76] & s[110]);
    s[247] = (vec)(~(s[7] | s[106]));
    s[248] = (vec)(~s[25] & s[36]);
    const vec t182 = (vec)(~s[26] & s[109]);
    s[109] = (vec)(s[64] | t182);
    s[249] = (vec)(s[25] & ~s[85]);
    s[250] = (vec)(t182 | s[249]);
    const vec t186 = (vec)(~s[32] & s[60]);
    s[251] = (vec)(s[124] & t186);
    const vec t188 = (vec)(~(s[92] | s[93]));
    s[252] = (vec)(t188 & t186);
    s[253] = (vec)(~(s[54] | s[94]));
    s[254] = (vec)(s[253] & t188);
    s[9] = (vec)(s[9] | ~s[99]);
    s[255] = (vec)(s[34] ^ ~s[88]);
    s[256] = (vec)(~s[43]);
    s[257] = (vec)(~s[93] & s[124]);
    const vec t196 = (vec)(~(s[113] | s[118]));
    s[113] = (vec)(s[48] | ~t196);
    s[258] = (vec)(s[28] & t196);
    s[259] = (vec)(~s[18]);
}

static void gates_2(vec *s)
{
    const vec t200 = (vec)(~s[30] & s[60]);
    s[260] = (vec)(s[80] ^ t200);
    s[261] = (vec)(s[85] & t200);
    s[262] = (vec)(~s[126]);
    s[263] = (vec)(~(s[43] | s[111]));
    s[264] = (vec)(s[103] | s[263]);
    s[265] = (vec)(s[44] & ~s[62]);
    s[73] = (vec)(~(s[73] | s[79]));
    const vec t208 = (vec)(~(s[63] | s[104]));
    s[104] = (vec)(~s[73] & t208);
    s[98] = (vec)(~(s[98] | s[99]));
    s[266] = (vec)(~s[98] & t208);
    s[122] = (vec)(~(s[117] | s[122]));
    const vec t213 = (vec)(~s[16] & s[90]);
    s[267] = (vec)(~s[122] & t213);
    s[41] = (vec)(~s[12] | s[41]);
    const vec t216 = (vec)(~(s[82] | s[102]));
    const vec t217 = (vec)(~s[1] & s[83]);
    s[83] = (vec)(~t216 & t217);
    const vec t219 = (vec)(s[4] & s[38]);
    s[4] = (vec)(~s[114] & t219);
    s[39] = (vec)(s[39] ^ t219);
    s[12] = (vec)(s[3] ^ s[12]);
    const vec t223 = (vec)(~s[121] & s[125]);
    s[121] = (vec)(s[0] ^ ~t223);
    s[1] = (vec)(~s[15] & t223);
    s[50] = (vec)(~s[50]);
    s[268] = (vec)(s[17] | s[119]);
    const vec t228 = (vec)(s[28] & ~s[37]);
    s[269] = (vec)(~(s[268] | t228));
    s[124] = (vec)(~(s[124] & t228));
    const vec t231 = (vec)(s[46] & s[61]);
    s[61] = (vec)(s[94] & ~t231);
    s[270] = (vec)(~(s[24] | t231));
    const vec t234 = (vec)(~(s[66] | s[111]));
    s[43] = (vec)(~s[43] & s[85]);
    s[271] = (vec)(t234 & ~s[43]);
    s[272] = (vec)(s[23] | s[105]);
    s[273] = (vec)(s[3] & s[91]);
    s[274] = (vec)(s[37] & ~s[273]);
    s[275] = (vec)(~s[54] & s[108]);
    s[38] = (vec)(s[38] & s[275]);
    s[32] = (vec)(~s[32] & s[74]);
    s[276] = (vec)(~(s[118] | s[127]));
    const vec t244 = (vec)(s[66] & ~s[93]);
    s[277] = (vec)(~s[119] & t244);
    const vec t246 = (vec)(s[3] & ~s[31]);
    const vec t247 = (vec)(s[51] & ~s[63]);
    s[31] = (vec)(t246 & t247);
    s[3] = (vec)(~s[53] & t247);
    const vec t250 = (vec)(s[82] & ~s[127]);
    s[127] = (vec)(t250 & t247);
    s[278] = (vec)(~s[110] & t250);
    s[279] = (vec)(~s[76] | s[95]);
    const vec t254 = (vec)(s[112] & s[120]);
    s[96] = (vec)(s[96] & t254);
    const vec t256 = (vec)(~(s[22] | s[105]));
    s[280] = (vec)(s[103] | t256);
    s[281] = (vec)(~s[106] & t256);
    s[79] = (vec)(~(s[20] | s[79]));
    s[56] = (vec)(s[48] & s[56]);
    s[48] = (vec)(~s[85]);
    s[10] = (vec)(s[10] & ~s[62]);
    s[282] = (vec)(s[89] | ~s[115]);
    const vec t264 = (vec)(s[5] ^ s[30]);
    s[5] = (vec)(~s[118] & t264);
    s[283] = (vec)(s[0] & s[118]);
    s[81] = (vec)(s[42] & ~s[81]);
    s[284] = (vec)(~s[20] & s[60]);
    s[285] = (vec)(~s[93]);
    s[28] = (vec)(~s[28] & s[90]);
    const vec t271 = (vec)(~s[21] & s[35]);
    s[90] = (vec)(s[106] & t271);
    const vec t273 = (vec)(s[26] & ~s[69]);
    s[286] = (vec)(s[95] | t273);
    const vec t275 = (vec)(~(s[20] | s[112]));
    s[20] = (vec)(t273 & t275);
    s[86] = (vec)(s[64] | ~s[86]);
    s[23] = (vec)(s[23] ^ ~s[66]);
    s[66] = (vec)(s[64] | s[118]);
    s[112] = (vec)(ZERO);
    const vec t281 = (vec)(s[62] & s[75]);
    s[62] = (vec)(~s[71] & t281);
    const vec t283 = (vec)(s[6] ^ s[118]);
    s[118] = (vec)(s[95] | ~t283);
    s[287] = (vec)(t283 | ~t281);
    const vec t286 = (vec)(~s[94] & s[100]);
    s[53] = (vec)(s[53] & t286);
    s[288] = (vec)(s[27] & t286);
    s[289] = (vec)(~s[7] & s[54]);
    s[290] = (vec)(~(s[40] | s[289]));
    const vec t291 = (vec)(~s[14] & s[59]);
    s[59] = (vec)(~s[2] & t291);
    s[40] = (vec)(~(s[40] | s[89]));
    s[76] = (vec)(s[75] & s[76]);
    s[74] = (vec)(~s[46] & s[74]);
    const vec t296 = (vec)(s[84] & s[103]);
    s[71] = (vec)(s[71] | t296);
    s[84] = (vec)(s[106] ^ ~t296);
    s[54] = (vec)(~s[54]);
}

static void gates_3(vec *s)
{
    s[60] = (vec)(~s[60]);
    s[34] = (vec)(~s[18] & s[34]);
    const vec t302 = (vec)(~(s[22] | s[102]));
    s[2] = (vec)(s[2] | ~t302);
    const vec t304 = (vec)(~(s[58] | s[64]));
    s[16] = (vec)(~(s[16] | t304));
    const vec t306 = (vec)(s[6] & s[68]);
    s[26] = (vec)(~s[26] | t306);
    s[114] = (vec)(s[7] | ~s[114]);
    s[47] = (vec)(~(s[45] | s[47]));
    s[21] = (vec)(s[21] & ~s[24]);
    s[45] = (vec)(~s[117]);
    const vec t312 = (vec)(~s[24] & s[68]);
    const vec t313 = (vec)(~(s[15] | s[25]));
    s[15] = (vec)(t312 & t313);
    s[25] = (vec)(s[44] & t313);
    s[117] = (vec)(~s[116] & s[117]);
    s[100] = (vec)(s[92] & s[100]);
    const vec t318 = (vec)(~s[7] & s[11]);
    s[7] = (vec)(s[24] & ~t318);
    s[11] = (vec)(s[14] & t318);
    const vec t321 = (vec)(s[125] & ~s[126]);
    s[111] = (vec)(~s[111] & t321);
    s[125] = (vec)(s[0] | s[107]);
    s[24] = (vec)(s[18] & ~s[24]);
    const vec t325 = (vec)(~(s[106] | s[107]));
    s[36] = (vec)(s[36] & ~t325);
    s[106] = (vec)(s[33] ^ ~s[72]);
    s[94] = (vec)(s[88] | ~s[94]);
    s[67] = (vec)(s[35] ^ s[67]);
    s[87] = (vec)(s[87] ^ ~s[115]);
    s[80] = (vec)(s[80] | s[93]);
    s[108] = (vec)(~s[108]);
    const vec t333 = (vec)(s[33] & ~s[78]);
    s[78] = (vec)(~(s[119] | t333));
    s[107] = (vec)(~s[107]);
    const vec t336 = (vec)(s[14] & s[82]);
    s[14] = (vec)(s[110] | t336);
    s[82] = (vec)(s[37] | s[120]);
}

/* Evaluates all gates; the inputs lie in the first slots. */
static void run(vec *s)
{
    gates_0(s);
    gates_1(s);
    gates_2(s);
    gates_3(s);
}

/* Loads eight bytes, the first into the lowest, on any byte order; `count` < 8 fills up with zeros. */
static uint64_t load_bytes(const uint8_t *p, size_t count)
{
    uint64_t x = 0;
    if (count >= 8)
        return (uint64_t)p[0] | (uint64_t)p[1] << 8 | (uint64_t)p[2] << 16 | (uint64_t)p[3] << 24 |
               (uint64_t)p[4] << 32 | (uint64_t)p[5] << 40 | (uint64_t)p[6] << 48 | (uint64_t)p[7] << 56;
    for (size_t i = 0; i < count; i++)
        x |= (uint64_t)p[i] << (8 * i);
    return x;
}

/* Transposes an 8x8 bit matrix: bit j of byte i becomes bit i of byte j (Hacker's Delight, 7-3). */
static uint64_t transpose_bits(uint64_t x)
{
    uint64_t t = (x ^ (x >> 7)) & UINT64_C(0x00AA00AA00AA00AA);
    x ^= t ^ (t << 7);
    t = (x ^ (x >> 14)) & UINT64_C(0x0000CCCC0000CCCC);
    x ^= t ^ (t << 14);
    t = (x ^ (x >> 28)) & UINT64_C(0x00000000F0F0F0F0);
    return x ^ t ^ (t << 28);
}

/* Sets byte i of the result to 1 where byte i of x is not 0. */
static uint64_t bytes_nonzero(uint64_t x)
{
    x |= x >> 4;
    x |= x >> 2;
    x |= x >> 1;
    return x & UINT64_C(0x0101010101010101);
}

#ifdef NUM_THRESHOLDS
/* Sets byte i of the result to 1 where byte i of x is above the level. */
static uint64_t bytes_above(uint64_t x, unsigned level)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    const uint64_t low = (x & 0x7F * ones) + (0x7F - (level & 0x7F)) * ones;
    return ((level & 0x80 ? low & x : low | x) >> 7) & ones;
}
#endif

/* Packs feature columns first .. first+7 of up to WORD_BITS samples into eight words. `level` < 0 means bools. */
static void pack_columns(const uint8_t *x, size_t stride, size_t columns, int level, size_t count, word *out)
{
    word words[8] = {0};
    for (size_t first = 0; first < count; first += 8) {
        uint64_t rows = 0;
        for (size_t i = 0; i < 8 && first + i < count; i++) {
            uint64_t bytes = load_bytes(x + (first + i) * stride, columns);
#ifdef NUM_THRESHOLDS
            bytes = level < 0 ? bytes_nonzero(bytes) : bytes_above(bytes, (unsigned)level);
#else
            (void)level;
            bytes = bytes_nonzero(bytes);
#endif
            rows |= (bytes * UINT64_C(0x0102040810204080)) >> 56 << (8 * i);
        }
        rows = transpose_bits(rows);
        for (size_t i = 0; i < 8; i++)
            words[i] = (word)(words[i] | (word)((word)(rows >> (8 * i) & 0xFF) << first));
    }
    for (size_t i = 0; i < columns && i < 8; i++)
        out[i * LANES] = words[i];
}

/* Packs samples into the input slots; lane l holds samples l*WORD_BITS ... of the block. */
static void pack_block(const uint8_t *x, int kind, size_t count, word *slots)
{
    for (size_t lane = 0; lane < LANES; lane++) {
        const size_t start = lane * WORD_BITS;
        const size_t rest = count <= start ? 0 : count - start < WORD_BITS ? count - start : WORD_BITS;
        if (kind == KIND_BOOLS)
            for (size_t d = 0; d < NUM_INPUTS; d += 8)
                pack_columns(x + start * NUM_INPUTS + d, NUM_INPUTS, NUM_INPUTS - d, -1, rest,
                             slots + d * LANES + lane);
#ifdef NUM_THRESHOLDS
        else
            for (size_t t = 0; t < NUM_THRESHOLDS; t++)
                for (size_t d = 0; d < NUM_PIXELS; d += 8)
                    pack_columns(x + start * NUM_PIXELS + d, NUM_PIXELS, NUM_PIXELS - d, THRESHOLDS[t], rest,
                                 slots + (t * NUM_PIXELS + d) * LANES + lane);
#endif
    }
}

#define ADD(sum, carry, x, y)                    \
    do {                                         \
        const vec both_ = (vec)(sum ^ (x));      \
        carry = (vec)((sum & (x)) | (both_ & (y))); \
        sum = (vec)(both_ ^ (y));                \
    } while (0)

/* Counts the ones of a class bit by bit: plane d holds bit d of the count of each sample (carry-save adders). */
static void count_class(const vec *s, const slot_index *outputs, vec *planes)
{
    vec ones = ZERO, twos = ZERO, fours = ZERO, two_a, two_b, four_a, four_b, carry;
    for (size_t d = 0; d < NUM_PLANES; d++)
        planes[d] = ZERO;
    for (size_t i = 0; i + 8 <= GROUP_SIZE; i += 8) {
        const slot_index *o = outputs + i;
        ADD(ones, two_a, s[o[0]], s[o[1]]);
        ADD(ones, two_b, s[o[2]], s[o[3]]);
        ADD(twos, four_a, two_a, two_b);
        ADD(ones, two_a, s[o[4]], s[o[5]]);
        ADD(ones, two_b, s[o[6]], s[o[7]]);
        ADD(twos, four_b, two_a, two_b);
        ADD(fours, carry, four_a, four_b);
        for (size_t d = 3; d < NUM_PLANES; d++) {
            const vec old = planes[d];
            planes[d] = (vec)(old ^ carry);
            carry = (vec)(old & carry);
        }
    }
    planes[0] = ones;
    if (NUM_PLANES > 1)
        planes[NUM_PLANES > 1 ? 1 : 0] = twos;
    if (NUM_PLANES > 2)
        planes[NUM_PLANES > 2 ? 2 : 0] = fours;
    for (size_t i = GROUP_SIZE / 8 * 8; i < GROUP_SIZE; i++) {
        carry = s[outputs[i]];
        for (size_t d = 0; d < NUM_PLANES; d++) {
            const vec old = planes[d];
            planes[d] = (vec)(old ^ carry);
            carry = (vec)(old & carry);
        }
    }
}

/* Turns the planes into one count a sample. */
static void planes_to_counts(const vec *planes, int32_t *counts)
{
    const word *words = (const word *)planes;
    for (size_t lane = 0; lane < LANES; lane++) {
        int32_t *out = counts + lane * WORD_BITS;
        for (size_t j = 0; j < WORD_BITS; j += 4) {
#if GROUP_SIZE < 65536
            /* Four samples at once, 16 bits each: the product moves bit i of a nibble to bit 16 i. */
            uint64_t sum = 0;
            for (size_t d = 0; d < NUM_PLANES; d++)
                sum += (((uint64_t)(words[d * LANES + lane] >> j & 15) * UINT64_C(0x200040008001)) &
                        UINT64_C(0x0001000100010001)) << d;
            for (size_t i = 0; i < 4; i++)
                out[j + i] = (int32_t)(sum >> (16 * i) & 0xFFFF);
#else
            for (size_t i = 0; i < 4; i++) {
                out[j + i] = 0;
                for (size_t d = 0; d < NUM_PLANES; d++)
                    out[j + i] |= (int32_t)(words[d * LANES + lane] >> (j + i) & 1) << d;
            }
#endif
        }
    }
}

/* Runs `count` samples; either of `scores` and `classes` may be NULL. Returns 0, or -1 if memory is short. */
static int classify(const void *x, int kind, int32_t *scores, int32_t *classes, size_t count)
{
    const size_t row = kind == KIND_PACKED ? 0 : kind == KIND_BOOLS ? (size_t)NUM_INPUTS : (size_t)ROW_PIXELS;
    const size_t block = LANES * WORD_BITS;
    /* Slots that nobody writes, the borders of images, hold 0. The counts stand in front, as a slot may be a byte. */
    void *memory = calloc(1, 3 * block * sizeof(int32_t) + (NUM_SLOTS + 1) * sizeof(vec));
    if (memory == NULL)
        return -1;

    int32_t *counts = (int32_t *)memory, *best = counts + block, *arg = best + block;
    vec *slots = (vec *)(((uintptr_t)(arg + block) + sizeof(vec) - 1) / sizeof(vec) * sizeof(vec));
    vec planes[NUM_PLANES];

    for (size_t start = 0; start < count; start += block) {
        const size_t samples = count - start < block ? count - start : block;
        if (kind == KIND_PACKED)
            for (size_t lane = 0; lane < LANES; lane++)
                for (size_t d = 0; d < NUM_INPUTS; d++)
                    ((word *)slots)[d * LANES + lane] =
                        lane * WORD_BITS < samples
                            ? ((const word *)x)[(start / WORD_BITS + lane) * NUM_INPUTS + d]
                            : (word)0;
        else
            pack_block((const uint8_t *)x + start * row, kind, samples, (word *)slots);
        run(slots);
        for (size_t c = 0; c < NUM_CLASSES; c++) {
            count_class(slots, OUTPUTS + c * GROUP_SIZE, planes);
            planes_to_counts(planes, counts);
            if (scores != NULL)
                for (size_t j = 0; j < samples; j++)
                    scores[(start + j) * NUM_CLASSES + c] = counts[j];
            if (classes != NULL)
                for (size_t j = 0; j < samples; j++)
                    if (c == 0 || counts[j] > best[j]) {
                        best[j] = counts[j];
                        arg[j] = (int32_t)c;
                    }
        }
        if (classes != NULL)
            memcpy(classes + start, arg, samples * sizeof(int32_t));
    }
    free(memory);
    return 0;
}

int lgn_net_scores_packed(const lgn_net_word *inputs, int32_t *scores, size_t count)
{
    return classify(inputs, KIND_PACKED, scores, NULL, count);
}

int lgn_net_predict_packed(const lgn_net_word *inputs, int32_t *classes, size_t count)
{
    return classify(inputs, KIND_PACKED, NULL, classes, count);
}

int lgn_net_scores_bools(const uint8_t *inputs, int32_t *scores, size_t count)
{
    return classify(inputs, KIND_BOOLS, scores, NULL, count);
}

int lgn_net_predict_bools(const uint8_t *inputs, int32_t *classes, size_t count)
{
    return classify(inputs, KIND_BOOLS, NULL, classes, count);
}

#ifdef NUM_THRESHOLDS
int lgn_net_scores_pixels(const uint8_t *pixels, int32_t *scores, size_t count)
{
    return classify(pixels, KIND_PIXELS, scores, NULL, count);
}

int lgn_net_predict_pixels(const uint8_t *pixels, int32_t *classes, size_t count)
{
    return classify(pixels, KIND_PIXELS, NULL, classes, count);
}
#endif

int64_t lgn_net_info(int what)
{
    static const int64_t values[] = {NUM_INPUTS, NUM_CLASSES, WORD_BITS, ROW_PIXELS};
    return what < 0 || what > 3 ? -1 : values[what];
}

const char *lgn_net_class_name(int32_t index)
{
    return index < 0 || index >= NUM_CLASSES ? NULL : CLASS_NAMES[index];
}

#ifdef LGN_MAIN
#include <stdio.h>

/* Classifies samples from standard input: raw bytes, one byte a pixel a sample. Prints one class a line. */
int main(int argc, char **argv)
{
    enum { CHUNK = 4096 };
    const int with_scores = argc > 1 && strcmp(argv[1], "--scores") == 0;
    uint8_t *samples;
    int32_t *scores;
    size_t bytes;
    int status = 0;

    if (argc > 1 + with_scores) {
        fprintf(stderr, "usage: %s [--scores] < samples   (raw bytes, %u a sample: one byte a pixel)\n", argv[0],
                (unsigned)ROW_BYTES);
        return 2;
    }
    samples = malloc((size_t)CHUNK * ROW_BYTES);
    scores = malloc(sizeof(int32_t) * CHUNK * NUM_CLASSES);
    if (samples == NULL || scores == NULL) {
        fprintf(stderr, "%s: out of memory\n", argv[0]);
        free(samples);
        free(scores);
        return 1;
    }
    while (status == 0 && (bytes = fread(samples, 1, (size_t)CHUNK * ROW_BYTES, stdin)) > 0) {
        const size_t count = bytes / ROW_BYTES;
#ifndef NUM_THRESHOLDS
        for (size_t i = 0; i < count * ROW_BYTES; i++)
            if (samples[i] > 1) {
                fprintf(stderr, "%s: byte %u of the input is neither 0 nor 1\n", argv[0], (unsigned)i);
                status = 1;
                goto end;
            }
#endif
        if (classify(samples, ROW_KIND, scores, NULL, count)) {
            fprintf(stderr, "%s: out of memory\n", argv[0]);
            status = 1;
        }
        for (size_t j = 0; j < count && status == 0; j++) {
            const int32_t *row = scores + j * NUM_CLASSES;
            size_t best = 0;
            for (size_t c = 1; c < NUM_CLASSES; c++)
                if (row[c] > row[best])
                    best = c;
            printf("%s", CLASS_NAMES[best]);
            for (size_t c = 0; with_scores && c < NUM_CLASSES; c++)
                printf(" %ld", (long)row[c]);
            printf("\n");
        }
        if (bytes % ROW_BYTES) {
            fprintf(stderr, "%s: the input ends within a sample: %u bytes of %u\n", argv[0],
                    (unsigned)(bytes % ROW_BYTES), (unsigned)ROW_BYTES);
            status = 1;
        }
    }
    if (status == 0 && ferror(stdin)) {
        fprintf(stderr, "%s: standard input cannot be read\n", argv[0]);
        status = 1;
    }
#ifndef NUM_THRESHOLDS
end:
#endif
    free(samples);
    free(scores);
    return status;
}
#endif
