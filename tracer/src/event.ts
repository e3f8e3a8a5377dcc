/** Generated from chart_event-1.2.0.json by `npm run types`. Do not edit. */

export const SCHEMA_VERSION = "1.2.0";

/** One action of one visitor on a product-comparison page, as it stands on the Kafka topic: what the client sent plus what the edge added. Members marked readOnly are the edge's; a client that sends them is refused. */
export interface ChartEvent {
  /** Version of this contract that the sender wrote to. */
  schema_version?: string | undefined;
  /** What happened. */
  event_type: "page_view" | "chart_interaction" | "affiliate_click";
  /** Identity of the event, fixed at its creation (UUIDv7); a retry keeps it. */
  event_id: string;
  /** When it happened by the client clock; immutable, decides the event day (UTC). */
  ts: string;
  /** Who, without personal data. */
  user: {
    user_id_hash?: string | null | undefined;
    consent: {
      analytics: boolean;
      ads?: boolean | null | undefined;
    };
  };
  /** The visit it belongs to. */
  session?: {
    session_id?: string | null | undefined;
    utm?: {
      source?: string | null | undefined;
      medium?: string | null | undefined;
      campaign?: string | null | undefined;
      term?: string | null | undefined;
      content?: string | null | undefined;
    } | null | undefined;
  } | null | undefined;
  /** Where on the site and with what client. */
  ctx?: {
    page_url?: string | null | undefined;
    referrer?: string | null | undefined;
    locale?: string | null | undefined;
    /** User agent as the client names itself; the edge replaces it by device, browser and os unless told to keep it. */
    user_agent?: string | null | undefined;
    ab_variant?: string | null | undefined;
  } | null | undefined;
  /** What was done on the comparison chart; required for chart_interaction. */
  chart?: {
    product_ids?: string[] | null | undefined;
    action?: "toggle" | "sort" | "filter" | "compare_expand" | "compare_collapse" | null | undefined;
    control_id?: string | null | undefined;
    control_value?: string | number | boolean | null | undefined;
  } | null | undefined;
  /** Which link was followed; required for affiliate_click. */
  affiliate?: {
    link_id?: string | null | undefined;
    target?: string | null | undefined;
    payout_cents?: number | null | undefined;
    /** Place of the link on the chart, from 1 at the top. */
    position?: number | null | undefined;
  } | null | undefined;
  /** About the sender. */
  metadata?: {
    sdk_version?: string | null | undefined;
    experiment_keys?: string[] | null | undefined;
  } | null | undefined;
  /** When this attempt was sent by the client clock; differs between retries. */
  sent_at?: string | null | undefined;
  /** Counter of events within the session. */
  seq?: number | null | undefined;
  /** Ties interactions and clicks to their page view. */
  page_view_id?: string | null | undefined;
  /** Identity of an affiliate click handed to the network as its sub-id. */
  click_id?: string | null | undefined;
}
