"""Names of the countries where marketplaces have hosts; others are shown by their code."""

TABLE = (
    "AE=Emirates,AR=Argentina,AT=Austria,AU=Australia,BE=Belgium,BG=Bulgaria,BR=Brazil,"
    "CA=Canada,CH=Switzerland,CL=Chile,CN=China,CO=Colombia,CZ=Czechia,DE=Germany,DK=Denmark,"
    "EE=Estonia,EG=Egypt,ES=Spain,FI=Finland,FR=France,GB=United Kingdom,GE=Georgia,GR=Greece,"
    "HK=Hong Kong,HR=Croatia,HU=Hungary,ID=Indonesia,IE=Ireland,IL=Israel,IN=India,IS=Iceland,"
    "IT=Italy,JP=Japan,KR=South Korea,KZ=Kazakhstan,LT=Lithuania,LU=Luxembourg,LV=Latvia,"
    "MD=Moldova,MX=Mexico,MY=Malaysia,NL=Netherlands,NO=Norway,NZ=New Zealand,PH=Philippines,"
    "PL=Poland,PT=Portugal,QA=Qatar,RO=Romania,RS=Serbia,RU=Russia,SA=Saudi Arabia,SE=Sweden,"
    "SG=Singapore,SI=Slovenia,SK=Slovakia,TH=Thailand,TR=Türkiye,TW=Taiwan,UA=Ukraine,"
    "US=United States,UY=Uruguay,VN=Vietnam,ZA=South Africa"
)
NAMES = dict(pair.split("=") for pair in TABLE.split(","))


def country_name(code: str) -> str:
    return NAMES.get(code, code)
