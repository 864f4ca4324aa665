#include "molt/train/page_style.h"

namespace molt::train {

// A shed skin, seen from above: a coil that opens.
const char* const kPageIcon =
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32'%3E%3Crect width='32' height='32' "
    "rx='8' fill='%230f766e'/%3E%3Cpath d='M16 16c0-2 3-2 3 .5 0 3-6 3.5-6-1 0-6 10-6 10 1 0 8-14 8-14-1.5' "
    "fill='none' stroke='white' stroke-width='2.4' stroke-linecap='round'/%3E%3C/svg%3E";

const char* const kPageMark =
    R"(<svg class="mark" viewBox="0 0 32 32" aria-hidden="true"><rect width="32" height="32" rx="8"/>)"
    R"(<path d="M16 16c0-2 3-2 3 .5 0 3-6 3.5-6-1 0-6 10-6 10 1 0 8-14 8-14-1.5"/></svg>)";

const char* const kPageStyle = R"css(
:root{color-scheme:light dark;
--bg:#f5f7f9;--card:#fff;--line:#e3e8ee;--grid:#edf0f4;--text:#17212e;--soft:#445064;--muted:#6a7688;
--accent:#0f766e;--accent-soft:#e3f3f0;--good:#0b6b4f;--good-soft:#e0f4ec;--bad:#b3261e;--bad-soft:#fce8e6;
--code:#f7f9fb;--shadow:0 1px 2px rgba(16,24,40,.05),0 4px 16px rgba(16,24,40,.04);
--s0:#0072b2;--s1:#d55e00;--s2:#009e73;--s3:#b0508f;--s4:#c98a00;--s5:#4aa5dc;--s6:#222b38;--s7:#8a7b00}
@media screen and (prefers-color-scheme:dark){:root{
--bg:#0e1318;--card:#161d25;--line:#27313c;--grid:#212a34;--text:#e8edf3;--soft:#bcc7d4;--muted:#8e9bab;
--accent:#3cc4b1;--accent-soft:#12302d;--good:#5fd3a6;--good-soft:#12312a;--bad:#ff8f85;--bad-soft:#3a1c1b;
--code:#10161d;--shadow:none;
--s0:#46a6ee;--s1:#ff8142;--s2:#22c79c;--s3:#e493c6;--s4:#f0b03a;--s5:#9bd8ff;--s6:#f4f6f8;--s7:#e6da55}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--bg);color:var(--text);line-height:1.5;font-size:15px;
font-family:system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue","Noto Sans",Arial,sans-serif}
main,header.top,footer{max-width:1180px;margin:0 auto;padding:0 24px}
header.top{padding-top:36px;padding-bottom:20px;display:flex;gap:18px;align-items:flex-start}
.mark{width:46px;height:46px;flex:none;margin-top:3px}
.mark rect{fill:var(--accent)}.mark path{fill:none;stroke:var(--card);stroke-width:2.4;stroke-linecap:round}
h1{margin:0;font-size:27px;line-height:1.25;letter-spacing:-.015em;font-weight:680;overflow-wrap:anywhere}
h2{margin:38px 0 14px;font-size:18px;letter-spacing:-.005em;font-weight:650}
.chips{display:flex;flex-wrap:wrap;gap:6px 8px;margin-top:9px}
.chip{font-size:13px;padding:2px 10px;border-radius:99px;border:1px solid var(--line);background:var(--card);color:var(--soft);overflow-wrap:anywhere}
.chip.ok{background:var(--good-soft);color:var(--good);border-color:transparent;font-weight:600}
.chip.bad{background:var(--bad-soft);color:var(--bad);border-color:transparent;font-weight:600}
.cards{display:grid;gap:14px}
.c2{grid-template-columns:repeat(2,1fr)}.c3{grid-template-columns:repeat(3,1fr)}.c4{grid-template-columns:repeat(4,1fr)}.c5{grid-template-columns:repeat(5,1fr)}
.wide1>.card:first-child{grid-column:span 2}
.card,.panel,.chart{background:var(--card);border:1px solid var(--line);border-radius:14px;box-shadow:var(--shadow)}
.card{padding:15px 18px 14px;min-width:0}
.card .name{font-size:12.5px;color:var(--muted);font-weight:550}
.card .value{font-size:25px;line-height:1.25;margin-top:3px;font-weight:660;letter-spacing:-.02em;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}
.card .value.long{font-size:17px;line-height:1.35;letter-spacing:-.01em}
.card .value small{font-size:14px;font-weight:500;color:var(--muted);letter-spacing:0}
.card .more{font-size:13px;color:var(--muted);margin-top:2px;overflow-wrap:anywhere}
.card.main{background:linear-gradient(135deg,var(--accent-soft),var(--card) 75%)}
.card.main .value{color:var(--accent)}
.meter{height:5px;border-radius:3px;background:var(--grid);margin-top:9px;overflow:hidden}
.meter i{display:block;height:100%;min-width:3px;border-radius:3px;background:var(--accent)}
.charts{display:grid;grid-template-columns:repeat(2,minmax(0,1fr));gap:14px}
.charts .wide{grid-column:1/-1}.charts.three{grid-template-columns:repeat(3,minmax(0,1fr))}.charts.three .chart:not(.wide) svg{min-width:280px}
.chart{margin:0;padding:16px 18px 12px;position:relative;min-width:0}
.chart figcaption{font-size:14px}.chart figcaption b{font-weight:640}.chart figcaption span{color:var(--muted);margin-left:5px;font-size:13px}
.draw{overflow-x:auto;margin-top:8px}
.draw svg{display:block;width:100%;height:auto;min-width:440px;touch-action:pan-y}
svg text{font-size:12px;fill:var(--muted);font-variant-numeric:tabular-nums}
svg text.axis-name{fill:var(--muted);font-style:italic}svg text.label{fill:var(--text);font-weight:550;paint-order:stroke;stroke:var(--card);stroke-width:4px;stroke-linejoin:round}
.grid path{stroke:var(--grid);stroke-width:1}.axis,.tick{stroke:var(--line);stroke-width:1;fill:none}
.series path{fill:none;stroke:currentColor;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}
.series circle{fill:var(--card);stroke:currentColor;stroke-width:2}
.series.faint path{stroke-width:1;opacity:.33}.series.dashed path{stroke-dasharray:6 4}
.series.off{display:none}.chart.focus .series:not(.lit){opacity:.16}
.point{color:var(--s0)}.point>*{fill:currentColor;stroke:var(--card);stroke-width:1.5}
.front{fill:none;stroke:var(--muted);stroke-width:1.3;stroke-dasharray:3 4;opacity:.75}
.s0{color:var(--s0)}.s1{color:var(--s1)}.s2{color:var(--s2)}.s3{color:var(--s3)}.s4{color:var(--s4)}.s5{color:var(--s5)}.s6{color:var(--s6)}.s7{color:var(--s7)}
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:3px 16px;margin:7px 0 0;padding:0;font-size:13px}
.legend li{display:flex;align-items:center;gap:7px;cursor:pointer;user-select:none}
.legend li::before,.dot{content:"";width:16px;height:3px;border-radius:2px;background:currentColor;flex:none}
.legend li.dashed::before{background:linear-gradient(90deg,currentColor 0 6px,transparent 6px 10px,currentColor 10px)}
.legend li.faint::before{opacity:.4;height:2px}.legend li.off{opacity:.4;text-decoration:line-through}
.legend li>span{color:var(--soft)}
.note{margin:4px 0 0;font-size:12.5px;color:var(--muted)}
.hover line{stroke:var(--muted);stroke-width:1;stroke-dasharray:3 3}.hover circle{fill:currentColor;stroke:var(--card);stroke-width:2}
.hover circle.ring{fill:none;stroke:currentColor;stroke-width:2}
#tip{position:fixed;z-index:9;pointer-events:none;background:var(--card);color:var(--text);border:1px solid var(--line);border-radius:10px;
box-shadow:0 6px 24px rgba(0,0,0,.16);padding:8px 12px;font-size:13px;max-width:340px;font-variant-numeric:tabular-nums}
#tip b{display:block;font-weight:620;margin-bottom:2px}
#tip div{display:flex;gap:8px;align-items:center}#tip div i{width:9px;height:9px;border-radius:50%;background:currentColor;flex:none}
#tip div span{color:var(--soft)}#tip div em{font-style:normal;font-weight:600;margin-left:auto;padding-left:14px;color:var(--text)}
.panel{overflow-x:auto}.tall{max-height:620px;overflow-y:auto}
.tall th{position:sticky;top:0;background:var(--card);box-shadow:inset 0 -1px var(--line)}
td:last-child,th:last-child{padding-right:22px}td:first-child,th:first-child{padding-left:20px}
table{border-collapse:collapse;width:100%;font-size:14px}
th{font-size:12.5px;font-weight:600;color:var(--muted);text-align:left;vertical-align:bottom;white-space:nowrap}
th,td{padding:9px 14px;border-bottom:1px solid var(--line)}
tbody tr:last-child td{border-bottom:0}
tbody tr:hover td{background:color-mix(in srgb,var(--accent-soft) 35%,transparent)}
.num{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}th.num{white-space:normal}
.best{font-weight:680;color:var(--good);background:var(--good-soft);border-radius:7px;padding:2px 7px;margin:-2px -7px;display:inline-block}
td .under{display:block;height:4px;border-radius:2px;background:var(--grid);margin-top:5px;min-width:84px}
td .under i{display:block;height:100%;border-radius:2px;background:currentColor}
.method{display:flex;gap:10px;align-items:baseline;min-width:120px}
.method .dot{width:11px;height:11px;border-radius:50%;background:currentColor;transform:translateY(1px)}
.method strong{font-weight:640;color:var(--text)}.method small{display:block;color:var(--muted);font-size:12.5px}
.method a{color:inherit;text-decoration-color:var(--accent);text-underline-offset:3px}
.failed{color:var(--bad);font-size:13.5px}
.samples td{vertical-align:top;white-space:pre-wrap;overflow-wrap:anywhere}
.samples{table-layout:fixed;min-width:760px}
.samples .n{width:60px;color:var(--muted);white-space:nowrap}.samples .m{width:122px}
.samples .text{max-height:15em;overflow:auto}
.verdict{display:inline-flex;gap:5px;align-items:center;font-size:12.5px;font-weight:640;border-radius:99px;padding:2px 9px;white-space:nowrap}
.verdict.right{color:var(--good);background:var(--good-soft)}.verdict.wrong{color:var(--bad);background:var(--bad-soft)}
mark{background:none;color:inherit;border-radius:4px;padding:0 2px;margin:0 -2px}
mark.miss{background:var(--good-soft);color:var(--good)}mark.extra{background:var(--bad-soft);color:var(--bad)}
.tools{display:flex;gap:6px;float:right;margin-top:-2px}
.tools button,.copy{font:inherit;font-size:13px;color:var(--soft);background:var(--card);border:1px solid var(--line);border-radius:8px;padding:3px 11px;cursor:pointer}
.tools button[aria-pressed=true]{border-color:var(--accent);color:var(--accent);font-weight:600}
.only-wrong tr[data-ok="1"]{display:none}
.two{display:grid;grid-template-columns:repeat(auto-fit,minmax(340px,1fr));gap:14px;align-items:start}
details.panel>summary{cursor:pointer;padding:14px 18px;font-weight:640;list-style:none;display:flex;gap:9px;align-items:center}
details.panel>summary::-webkit-details-marker{display:none}
details.panel>summary::before{content:"";width:7px;height:7px;border:solid var(--muted);border-width:0 2px 2px 0;transform:rotate(-45deg);transition:transform .15s;margin-right:3px}
details.panel[open]>summary::before{transform:rotate(45deg) translate(-1px,-1px)}
details.panel>summary span{color:var(--muted);font-weight:400;font-size:13px}
.code{position:relative;border-top:1px solid var(--line);background:var(--code)}
.code pre{margin:0;padding:14px 20px;overflow-x:auto;font:13px/1.6 ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace}
.copy{position:absolute;top:10px;right:12px}
.yk{color:var(--s0)}.yc{color:var(--muted);font-style:italic}
dl{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:7px 22px;margin:0;padding:4px 18px 18px;font-size:14px}
dt{color:var(--muted)}dd{margin:0;overflow-wrap:anywhere;font-variant-numeric:tabular-nums}
.notes{margin:0;padding:4px 18px 16px;list-style:none;font-size:14px}.notes li{display:flex;gap:16px;padding:4px 0}
.notes li span{color:var(--muted);flex:none;min-width:76px;font-variant-numeric:tabular-nums}
footer{padding-top:26px;padding-bottom:40px;color:var(--muted);font-size:13px}
@media screen and (max-width:760px){.charts,.charts.three{grid-template-columns:minmax(0,1fr)}main,header.top,footer{padding-left:14px;padding-right:14px}
.cards.c2,.cards.c3,.cards.c4,.cards.c5{grid-template-columns:repeat(2,minmax(0,1fr))}.wide .draw svg{min-width:760px}.card .value{font-size:21px}}
@media print{@page{margin:13mm}
:root{--bg:#fff;--shadow:none}body{font-size:9.5pt;-webkit-print-color-adjust:exact;print-color-adjust:exact}
main,header.top,footer{max-width:none;padding-left:0;padding-right:0}header.top{padding-top:0}
.tools,.copy,#tip{display:none!important}.card,.chart,tr,dl,.notes li{break-inside:avoid}h2,summary{break-after:avoid}
.draw,.panel{overflow:visible}.tall{max-height:none}.draw svg{min-width:0}.samples{min-width:0}.samples .text{max-height:none}.code pre{white-space:pre-wrap}
.cards,.charts{gap:8px}.card{padding:8px 11px}.card .value{font-size:14pt}.card .value.long{font-size:10.5pt}.card .more,.card .name{font-size:8.5pt}
.two{grid-template-columns:1fr}table,dl,.notes{font-size:9.5pt}th,td{padding:5px 10px}h1{font-size:19pt}h2{margin-top:22px}.chart{padding:11px 13px}}
)css";

const char* const kPageScript = R"js(
(()=>{const $=(q,e=document)=>[...e.querySelectorAll(q)],tip=document.getElementById('tip'),NS='http://www.w3.org/2000/svg';
const node=(tag,at)=>{const e=document.createElementNS(NS,tag);for(const k in at)e.setAttribute(k,at[k]);return e};
const el=(tag,text,cls)=>{const e=document.createElement(tag);if(text!=null)e.textContent=text;if(cls)e.className=cls;return e};
const num=v=>Math.abs(v)>=1e5?Math.round(v).toLocaleString('en'):String(+v.toPrecision(4));
const show=(ev,kids)=>{tip.replaceChildren(...kids);tip.hidden=false;const w=tip.offsetWidth,h=tip.offsetHeight;
 let x=ev.clientX+16,y=ev.clientY-h-12;if(x+w>innerWidth-8)x=ev.clientX-w-16;if(y<8)y=ev.clientY+18;tip.style.left=Math.max(8,x)+'px';tip.style.top=y+'px'};
const row=(cls,name,value)=>{const d=el('div',null,cls.split(' ')[0]);d.append(el('i'),el('span',name));if(value!=null)d.append(el('em',value));return d};
const near=(p,x)=>{let a=0,b=p.length-1;while(b-a>1){const m=a+b>>1;p[m][0]<x?a=m:b=m}return x-p[a][0]<p[b][0]-x?p[a]:p[b]};
for(const fig of $('.chart')){const data=JSON.parse(fig.querySelector('script').textContent),svg=fig.querySelector('svg'),g=svg.querySelector('.hover'),[bx,by,bw,bh]=data.box;
 const off=new Set(),px=x=>bx+bw*(x-data.x[0])/(data.x[1]-data.x[0]),py=y=>{const f=data.log?Math.log:v=>v,[a,b]=data.y;return by+bh*(1-(f(y)-f(a))/(f(b)-f(a)))};
 const leave=()=>{g.replaceChildren();tip.hidden=true};
 svg.addEventListener('pointerleave',leave);
 svg.addEventListener('pointermove',ev=>{const r=svg.getBoundingClientRect(),k=svg.viewBox.baseVal.width/r.width,mx=(ev.clientX-r.left)*k,my=(ev.clientY-r.top)*k;
  if(data.kind==='scatter'){let best=null,d=30*30;for(const p of data.points){const e=(p.at[0]-mx)**2+(p.at[1]-my)**2;if(e<d){d=e;best=p}}
   if(!best)return leave();g.replaceChildren(node('circle',{cx:best.at[0],cy:best.at[1],r:11,class:'ring '+best.class}));
   return show(ev,[row(best.class,best.name),...best.lines.map(t=>el('div',t))])}
  if(mx<bx-8||mx>bx+bw+8)return leave();
  const x=data.x[0]+(mx-bx)/bw*(data.x[1]-data.x[0]);let at=null;
  data.series.forEach((s,i)=>{if(off.has(i))return;const p=near(s.points,x);if(at==null||Math.abs(p[0]-x)<Math.abs(at-x))at=p[0]});
  if(at==null)return leave();
  const kids=[el('b','step '+at.toLocaleString('en'))],marks=[node('line',{x1:px(at),x2:px(at),y1:by,y2:by+bh})];
  data.series.forEach((s,i)=>{if(off.has(i))return;const p=near(s.points,at);if(Math.abs(px(p[0])-px(at))>10)return;
   kids.push(row(s.class,s.name+(Math.abs(px(p[0])-px(at))<3?'':' (at '+p[0].toLocaleString('en')+')'),num(p[1])));
   const y=py(p[1]);if(y>=by-2&&y<=by+bh+2)marks.push(node('circle',{cx:px(p[0]),cy:y,r:4.5,class:s.class.split(' ')[0]}))});
  g.replaceChildren(...marks);show(ev,kids)});
 for(const li of $('.legend li',fig)){const i=+li.dataset.i,line=fig.querySelector('.series[data-i="'+i+'"]');
  li.addEventListener('click',()=>{off.has(i)?off.delete(i):off.add(i);li.classList.toggle('off');line.classList.toggle('off')});
  li.addEventListener('pointerenter',()=>{fig.classList.add('focus');line.classList.add('lit')});
  li.addEventListener('pointerleave',()=>{fig.classList.remove('focus');line.classList.remove('lit')})}}
for(const b of $('.tools button'))b.addEventListener('click',()=>{for(const o of $('button',b.parentNode))o.setAttribute('aria-pressed',o===b);
 document.querySelector('.samples').classList.toggle('only-wrong',b.dataset.show==='wrong')});
for(const b of $('.copy'))b.addEventListener('click',async()=>{const pre=b.parentNode.querySelector('pre');
 try{await navigator.clipboard.writeText(pre.textContent);b.textContent='Copied'}catch{getSelection().selectAllChildren(pre);b.textContent='Selected'}
 setTimeout(()=>b.textContent='Copy',1500)});
let open=[];addEventListener('beforeprint',()=>{open=$('details:not([open])');open.forEach(d=>d.open=true)});
addEventListener('afterprint',()=>open.forEach(d=>d.open=false))})();
)js";

}  // namespace molt::train
