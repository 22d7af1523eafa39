/** A chart's records as CSV (RFC 4180). Texts are untrusted: none becomes a formula of a spreadsheet. */
import { CRASH, STATUS_NAMES, type Series } from './chart/series';

const HEAD = ['id', 'parent', 'time', 'metric', 'status', 'class', 'confirmed', 'frontier', 'refused', 'disputed', 'stray'];

/** A cell. A text that a spreadsheet would compute begins with an apostrophe. */
export function cell(text: string): string {
  const safe = /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

/** The records of a mask, in order of time. Times are Unix seconds; a crash has no metric. */
export function csvOf(series: Series, mask: Uint8Array): string {
  const lines = [HEAD.join(',')];
  for (let i = 0; i < series.length; i++) {
    if (mask[i] === 0) continue;
    const flags = [series.verified[i], series.frontier[i], series.refused[i], series.disputed[i], series.stray[i]];
    lines.push(
      [
        series.ids.at(i),
        series.parent[i] < 0 ? '' : series.ids.at(series.parent[i]),
        series.time[i],
        series.status[i] === CRASH ? '' : series.metric[i],
        STATUS_NAMES[series.status[i]] ?? '',
        cell(series.classNames[series.hardwareClass[i]] ?? ''),
        ...flags,
      ].join(','),
    );
  }
  return `${lines.join('\r\n')}\r\n`;
}
