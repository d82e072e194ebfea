"""The constant of the official YouTube-8M features that reverses the whitening of the visual part.

The visual features are the first 1024 principal components of a network's output, each divided by
the square root of its eigenvalue and then quantized to 8 bits. The eigenvalues were published with
the reader of the challenge (google/youtube-8m); both releases of NeXtVLAD multiply by
sqrt(eigenvalue) + 1e-4, from 3.839 down to 0.124.
"""

import base64

import numpy as np

_BYTES = (
    "5VdtcG}bskGQ253;2RD=m4*91vC{58kdf;@8^_&0OefMmv(n5z-h0PC51qt6TFt*de%rV|y(zRmJ|(R`bC0AyJjS6v"
    "jv=2vh)bM5kD8i4J8_pk?TM8?+Ha6QAwiEnX&sF}qcn*>Rz!$D<V}Y^8J>ne%AJHiYfXbce@KEqcA$ShPv3k$EC_i&"
    "M5T5=wk>r(J}q)T6Ju~cMU-zpaExp}l)h>|s2^%SLDObG&2DBt=}2ThPEKJzM+#p*QDj~}1@~J&{J~m3eqUKXJ`Pwv"
    "i2+wX0|`|>$757K{AW@>8J|!;$9GRZTC+_*;XX}2YyL_<zRyZOYqd!~gI`EL!#_no6+lEkl!ik;{>VZ<FhoH=xZ^-S"
    "V%<MKcl$m+>Ki>jHS9b;HUm6A`^P&!(Y!i8>IFJK+uk@oP~A5_;?g!hDc?0e7JD^6jHom}M$0olISMmBY{W4?mpU;&"
    "wJt9|4@WLP!G<kA4kj%>$qFn#ld~&7F48JLQ86k%I+`gz49O@zv{NWQY#1j$9^EECfqo@F_%tOyJ;WqG8}uVTVuT|<"
    "`9C8+=L;i05BMQJ9)2M|$p0WeW>O$Og%2M;r^p^ZIBOn1YOx(ZCD0r{ZAlzID(@RVSw0&-F_{`a{}UQNLu460)Fc@{"
    "RCO3XI@uRLYo8ZC>l7D1BYhS>Dn=GRj{Frr&bAdlck~oL{Gt>;??n_p>3tJF@FNpH)+Q1^qT3Nac6kv$tm6<r2X_!Z"
    "82=AHio*{-7<Ugpkh%^(Wf=}X$p8*N?#2y27D)|1H}4ETSC<Sw8&3>Bu6YYTZz&5uvaJd~Mq~;<Q8EfYG8hU!&!-7L"
    "X6y(*B$5a}+3*KHf20RLh-n8u+usI1{!a!!CgcS_mZb$h!hr=pFDC^*Zde3AeE9=Evfu+h_k;sK^4|hKZnXkGgmD5t"
    "s2>79Xy^ey=$HXNt^ff)HlhGO<1qj~PLlsV?JEC1y^Q`oxi<bjz{34L1~dIW@4fs!Vf_0(h$Z_zS^4@tiP!l)OilSd"
    "j86DI#lrVK9&YzODzx@K614R`TtxLg;70U5PJ#12$=&ikIgj!_>wWP)Avp0qmrU?Jv>xz2XxQ&Qbj<EP33Tp05B}{w"
    "6vyp8glg?RZ9D8fI^yd-(`f5HAJ*zVZi4DQ)}rY?H%{q32ZrcAgWKmmr=90MLxko&32Ej&uZiV82n6LmPhI3b_|M}$"
    "0XgG7IGEx-HPqog_!r?mM&aN-&vW2DY&zgRa!B7k+b7>X>4M%qGA`ae(_-B|clF#p9>3f^MRVLfuLaybN*>!j6W`iC"
    "v0vIgIq}&($3EFUIk4D1;)~cmFdo=Gx3bqhF8|g(A9>b3-lf$(aedW3P@U91Uk%hgGf2}u2gcGq;a<`{t31*^;C9hI"
    "?;p`V54+Gl)n(8=J)h4$o0ZQ#gn`aJ1oh26hcV4QvFpq}IKa$4w?521KO@XO)ep-)slCcRGLy<a&j-pru*k_ib1=z1"
    "1r^CYl^MuB$=Js}MGD70>-xq%u)fAV&veE<vJ%EV?XAT=i0Z^X5wgTSBP7H=^RvS~Nq)mV?hnI0Y|+9#ym`VtK`FvM"
    "6zsu1&Tzp#sRO}25qiKrknO)dsGq++7XH3Irb50xzUsX`tERm^b3DC1*z&wS(R92%UZA@^cze4(6(YMn!uh&Bb$q%$"
    "c_+F)m7lpjYn!<~Vg0y1cgnav!$7z`s@S(a8%DQ2gQ~VZZKAe5A0xIt+~Bo7eSNh)R&KREYO=IG+E%nai9@tLC*HF@"
    "4o9;-xi_;uEVQydQ<kzmghH}DGt#j>!z8gj=gY7@WMr^DIMlB`C!()DfKabKlJu@Vc-5{xWmv901m>+imZGgbY$mNf"
    "&$FyP27|0V&M&M!t&FQa;xel~CFiO>jm4@yO;4&mN!Y1Aim9nSacQYOaLlMa<BX_2h)$?JHsYr~hk>U)YCESsZ>y$0"
    "R-dLmO97@nQ?8{xi-Dy+iaVt~Y3QUr=zgR=n=7O~80w=wvumS13p=AeBF&;ciK?PLVoRbvmHDAQrhK732n?Y<VfCOs"
    "%i5qmjj*6Tp%9=xIL4noi$9+}9rd0*%#)rzRC1m^Py3xdfXJObLZ+QQ+ghDIV*{N&S+ATv6egTLS;?C|q@tTXxnG+;"
    "F$SAHJ;$0p1ZSE)3n7|5PJ@{~Ayt_^uIZRQgO->+fnJzC%P5#WCE1rg_mG!9l4F-XXvCI2!jG0dLOGT`IQ*49?!T2j"
    "HIkJ+rW=($zzUT<G>eoz&4QFZY9^FE$Iz2Lr<#*KTQrkCO!ksK@ZOR>jdhYfo==iKYH^W1nP`zd=39|IUK5c%6>pF}"
    "5*Uy^ZTOEqJK2vu_fwBPeHD*B(9(`RG?|V*=2nhAIOUB#3$=|t#dM86X&#L}y3LF}{H2UO`!|d}+$M}Zy_btVHe`!F"
    "^dO5qW~GWgSc8f_eOZb=B}$4uNcV|8Lb-`P>xhXyFJFm1n;3~c9j}N!%o~V4bQFj_xAccT<GhDHC^&~c%ms%&V#<a-"
    "kD`V?U`&QSEG~vVXc~q-A*F>rfq#WQatnn%v*d(6Bd3Hu9cqL=QWAtdRnLPy(vX8b)^CG8IwgZXH?D#{lc|C}V1<G{"
    "*iV8!@Y#Vr3Xy?6qfdc8&_IDc&fb7N9D#s7M^=D7JOO|{V6J~YE@gi{sPuk521<TDKfHZDp9y_Frj&d>s!@DC8}fTT"
    "N0WO#a`JjU6}x&q3-WnBL5q1lnErS^KBIU(xU_dZGK6<N=uUS&h^ux!{A_kUbq{tvaGiBNp%8UG;FEMd(i3z(DUfqM"
    "JO*<<QNeOPz@u_Lq(X8&lkRaom^5)dzX)+YPHAvHB~WlaT@7$PkE(AzY}Rf*+I?<5R`_i`bHZ&tpC@fTCF^WH)<kSR"
    "Tk&f?qI+vTylQJclJsgm7`$pe1x;!`GJ0t~0_JEwf4yiv-BxHmZ0%=0c2#FSkQ!$`b;)Kv3}$9N4HRZRLQ7>nPyS>+"
    "^8{o*rP^aYN{?ecz$jxra&KZj(IsL&OT=M5I$vQv;R|6tfv;dbMI2y0?1f)GW>sH4UG!c)W!zpqXo+4vFausblG0s1"
    "8k}7|TsK`lv%XwDn}1wBHXd9)&97TN=YU&25%gL<M#@?~+Z9?qoZVSI*Nj;{zc^Vw$sk!iA*onCt@c+wxu91*HeOdg"
    "95Pov#`0D^sk>G_8WmPP&$v}SzHU`M7wS|#IS5of3;k0*pHx#mK`2u`B=Ax`G@w#GNLNxmuk}$rD0WdkWBpJ*1JY1F"
    "l6_D<3jt6*AiPgLrkYPaX9`a~6md>IVJl8Pa^y`ua?DLWnww2NdK67QJ_=1fEU-*ILLf{&?a@m<%FatZ?oLZSlZ#3|"
    "3TsL}ib_g8)bmL`9l}XIA~s1rcj-tzZ(c|~$MHu#9K}aIM14m-hB-$*J_koW(yT^43`|Bo!SzKx{h38R=}SdEqbo%|"
    "3Ccu14O&D#%Me698}dUwOUgq&QHw)9{2)U<+4@30z0^WJ(M3W&0iQuWVTwUM?-D^iQ-MG}f?7a6!ahJg8VNu?@6$g%"
    "ft5c#X=gt^Ya2g4gmOMU|2IB9>G(Z99Iib+1C%{J9v?kE0S7%k<>Wj*j-fn0wKzOJlgc|j7k@iGQe-<mha5XTu>w0j"
    "P?I`7I!`)2zQj2`BAGcpT~#?g#Q8Wrgr_(@oO3un&nGxOEVeg3@{Tt?Ct^1~t3o$EDBLza!>2Yrx`8%6Xbm<#oWnIf"
    "4VN`O#alH#Y#TK`kMcA=?0qyooO3ij9XvEXb*?i$&YLqnhL1Bo{aQ0V!16La)VVS~je;^h)#foiGORH^4U;iG#$7Q!"
    "ycsb*iUBb`bJ{RI-^MUL?fox42jee3WR)*IT}v-MH#jdo9l|a?Jf<!_bTckKdhRVgIpQroIgc$qnpZ78$rCL;QTr@D"
    "aHcFiZ-*>C>q9I)^1v%TjhHJw?^G*3;TbDF46!Oc!;&gK$!01(%UmixN;xV%&-W=l!PO}~=VmEBmqjT)YW65TgXAba"
    "X16Fl5kM$DMAaug+_5J<dSoX)=ocqG+U+JjkF6#?#9<~rv0WxU^%^EVr|=~{Ji{eE-FPKF`&T7C@gOBWv+5*1H?Jf<"
    "Z*e3(+aM%9&-)`jVA3N#?7t&E_p~EEkzXS|oj4;tO9&%A+`S?`w0a^w)@~v`OE)4u3#1`F?|UIW<5wX*2|*z~z3Cu6"
    "{LLUf@p>RW7*HTS)GQ!A@YEkZ^miXVoMj(Aq*fn31PmWOFxVbGn5P~-J(3<i>}ei8*jOGuv>F~huD=~Vx1t?Bgq<Be"
    "V^tkKhD;qkKoK22<=Y%S;H4Zsqb?ji)dU<qb?6&D?x-6+51ku6FL)b1V^14CDJvU3Kj|7i(xw_d*Kry?qc|EqVhI{P"
    "Bd!@fjGY-i6M7jw`b!x;s}UJKx#k!?Z{!$0lBF0vXki#W@;(?o0v{MY|JoNm*T5G(XQUTCU}hISd>$7*?9diI@}(9&"
    "8if`<#v&Fz()ATSz2X%<Q^*xQKYtZI?O7E*mopVU(kc}`4*3*5xt0_@DrOWu<S`UJUI!FD&D|3|5x)~Y*p?GM(Q*?$"
    "?-&z4j}8+)dDRj=DW4KPdW{l3x<L{?SvC?rMHv!4v*-~%@x&26>}C-@<W><rqCOEmTKEt?4AT%kF|80jR)P>d>^KlU"
    "rXLVKp9>H^+0qX_61@*TZj%o_kwy<bJ0%Z35e^SNXYdX_&%+KrDz6ScoPZ8KP&N)eawQHv@(d0>Hp&e?y{Zj9WpoWb"
    "Co~N{84e9Tc<~HAzq$-Qp@a-Rp=}I4qd*Kk)%*)S>Fx_Yc&Q6MDx3>GDoYDK2saBpE&vNYZs7_(AJ_^$>W>OO5OWGX"
    "byo^Lk0J^_x$y};u+RxUajFSEIG_nWQ+5eHg=q;sVN3}=x)%vPGX@DhmGB5Yk=Y17>8c1m+=U1}2xAC7@J<LmIvof;"
    "H~$AdY4-;{x3>pA1ZxLAH$4YF4hRQ6V(JDyuDu36XsZT3@{a~S$$kbt2}K4zu?Pk}J>dmDYtaQhEV~6hW|;*(A7lkS"
    "$4&)4+$9A*6zBv#E5ZamJgo#i>YoHY@_z(A({KbnXHEn@TnGd{>+}OYCD{W$-^2qx@udSk#y<l-S~&wgks|{>LIndp"
    "_{;)6Yrq0NvW@~iyLSRU4POF2^GgCg6)^%n{0ss<obLfX_vHaThROjx)3O0R;feu1v2OuBhC%^8sW1UP-vR+X(&_*{"
    "u)F|1*`)wJX^8+nb$I|j+A#n=3LyYK4i5l6kOTleou>aio@M_%m?8f?yAuCB3ETcXLt*|s5mNp=x&i(@"
)
# float32 [1024]
EIGEN_PARAM = np.frombuffer(base64.b85decode(_BYTES), "<f4")
